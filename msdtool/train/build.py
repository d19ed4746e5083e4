"""Loss, normalisation and learner of an experiment, and what they need of its images."""

from collections.abc import Sequence
from contextlib import suppress

import torch

from msdtool.architecture import Architecture
from msdtool.config import ExperimentConfig
from msdtool.config.agreement import graph_problems
from msdtool.data import Pairs
from msdtool.data.build import build_batches
from msdtool.errors import ConfigError, InputError
from msdtool.measure.masking import Total, of_one
from msdtool.nn.from_config import check_sizes
from msdtool.nn.graphs import GraphedNetwork
from msdtool.nn.scaling import ScaledNetwork
from msdtool.runs.model import Normalisation
from msdtool.train.averaging import WeightAverage
from msdtool.train.freezing import Frozen
from msdtool.train.image_losses import (
    EdgeLoss,
    FourierLoss,
    HardestSquaresLoss,
    MultiScaleSSIMLoss,
    TotalVariationLoss,
)
from msdtool.train.label_losses import BoundaryLoss, FocalLoss, HardestEntropyLoss, TverskyLoss
from msdtool.train.learner import Learner
from msdtool.train.losses import (
    CrossEntropyLoss,
    DiceLoss,
    GramLoss,
    IntervalLoss,
    Loss,
    RegressionLoss,
    SSIMLoss,
    WeightedSum,
    balanced_weights,
)
from msdtool.train.optim import Schedule, build_optimizer
from msdtool.train.precision import Precision
from msdtool.train.processes import ALONE, Processes


def build_loss(
    config: ExperimentConfig, normalisation: Normalisation, total: Total = of_one
) -> Loss:
    """Return the loss that training minimises; ``total`` as in `msdtool.train.losses`."""
    loss = WeightedSum(
        [
            (weight, _build_term(name, config, normalisation, total))
            for name, weight in config.training.loss_terms.items()
        ]
    )
    if config.training.interval is None:
        return loss
    std = _of_targets(normalisation.target_std, config)
    return IntervalLoss(loss, config.training.interval, std, total=total)


def _of_targets(values: Sequence[float], config: ExperimentConfig) -> Sequence[float]:
    """The values of the targets' channels, of those of the outputs'."""
    return values[: len(values) // config.output_groups]


def _build_term(
    name: str, config: ExperimentConfig, normalisation: Normalisation, total: Total
) -> Loss:
    """Return the loss that `TrainingConfig.loss_terms` calls ``name``."""
    if config.num_labels:
        return _build_label_term(name, config, normalisation, total)
    training = config.training
    mean = _of_targets(normalisation.target_mean, config)
    std = _of_targets(normalisation.target_std, config)
    match name:
        case "SSIM":
            return SSIMLoss(normalisation.loss_range, total=total)
        case "MS-SSIM":
            scales = training.ms_ssim_scales
            return MultiScaleSSIMLoss(normalisation.loss_range, scales, total=total)
        case "Gram":
            return GramLoss(mean, std, config.network.ndim, total=total)
        case "edge":
            return EdgeLoss(std, total=total)
        case "FFT":
            return FourierLoss(std, total=total)
        case "TV":
            return TotalVariationLoss(std, total=total)
        case "top_k":
            return HardestSquaresLoss(std, training.top_k_fraction, total=total)
        case _:
            return RegressionLoss(name, std, huber_delta=training.huber_delta, total=total)


def _build_label_term(
    name: str, config: ExperimentConfig, normalisation: Normalisation, total: Total
) -> Loss:
    """`_build_term` of a segmentation."""
    training = config.training
    weights = training.class_weights
    if weights == "balanced":
        weights = balanced_weights(normalisation.label_counts)
    assert not isinstance(weights, str)
    match name:
        case "dice":
            return DiceLoss(total=total)
        case "focal":
            return FocalLoss(training.focal_gamma, weights, total=total)
        case "tversky":
            return TverskyLoss(training.tversky_alpha, training.tversky_beta, total=total)
        case "boundary":
            return BoundaryLoss(total=total)
        case "TV":
            return TotalVariationLoss(labels=True, total=total)
        case "top_k":
            return HardestEntropyLoss(training.top_k_fraction, total=total)
        case _:
            return CrossEntropyLoss(weights, total=total)


def total_updates(config: ExperimentConfig, num_pairs: int) -> int:
    """Return the number of updates in all epochs."""
    batches = build_batches(config, num_pairs, 0).batches_per_epoch
    return config.training.epochs * -(-batches // config.training.accumulate)


def build_learner(
    config: ExperimentConfig,
    network: ScaledNetwork,
    normalisation: Normalisation,
    num_pairs: int,
    device: torch.device,
    processes: Processes = ALONE,
    *,
    graphs: bool = False,
) -> Learner:
    """Return an untrained learner, its network on the device.

    Args:
        config: the experiment.
        network: what is trained.
        normalisation: of the training set.
        num_pairs: pairs in the training set.
        device: where to compute.
        processes: those that train together.
        graphs: whether steps are CUDA graphs, see `uses_graphs`.
    """
    training = config.training
    network.to(device)
    frozen = None
    if training.freeze:
        parts = [part for part in training.freeze if part in ("stem", "head")]
        layers = training.frozen_layers(config.network.depth)
        frozen = Frozen(network, parts, layers=layers)
    optimizer = build_optimizer(
        training.optimizer, network.parameters(), training.learning_rate, training.weight_decay
    )
    schedule = Schedule(
        training.schedule,
        optimizer,
        total_updates(config, num_pairs),
        training.plateau_patience,
        training.warmup,
    )
    loss = build_loss(config, normalisation, processes.total)
    average = None if training.average is None else WeightAverage(network, training.average)
    learner = Learner(
        network,
        loss,
        optimizer,
        schedule,
        device,
        processes=processes,
        average=average,
        frozen=frozen,
        precision=Precision(training.precision, device),
    )
    if graphs:
        learner.called = GraphedNetwork(network)
    return learner


def uses_graphs(
    config: ExperimentConfig, device: torch.device, num_processes: int, train: Pairs
) -> bool:
    """Whether training launches its steps as CUDA graphs.

    Raises:
        ConfigError: it should, and cannot.
    """
    wanted, possible = config.training.cuda_graphs, device.type == "cuda" and num_processes == 1
    if wanted and not possible:
        raise ConfigError(
            "training.cuda_graphs: needs one process on a GPU; got "
            f"{num_processes} on {device.type}; set it to false or null"
        )
    if wanted is not None:
        return wanted
    if not possible or next(graph_problems(config.network, config.training), None):
        return False
    return config.crop_size is not None or len(sizes_of(train)) == 1


def sizes_of(pairs: Pairs) -> list[tuple[int, ...]]:
    """Return the distinct spatial shapes of the inputs; held-out slices make volumes smaller."""
    sizes: dict[tuple[int, ...], None] = {}
    for index in pairs.to_measure():
        with suppress(InputError):  # reported when the file is read
            sizes[pairs.space(index)] = None
    return list(sizes)


def check_images(
    config: ExperimentConfig, architecture: Architecture, train: Pairs, validation: Pairs | None
) -> None:
    """Try the layers around the network on every size of image, not only that of the first.

    Raises:
        ConfigError: a layer does not work on one of them.
    """
    if not (config.network.stem or config.network.head):
        return
    training = [config.crop_size] if config.crop_size else sizes_of(train)
    check_sizes(config, architecture, training, sizes_of(validation) if validation else [])

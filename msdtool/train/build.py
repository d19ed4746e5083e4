"""Loss, normalisation and learner of an experiment, and what they need of its images."""

from contextlib import suppress

import torch

from msdtool.architecture import Architecture
from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.data.build import build_batches
from msdtool.data.statistics import Statistics, measure
from msdtool.errors import ConfigError, InputError
from msdtool.measure.masking import Total, of_one
from msdtool.nn.from_config import check_sizes
from msdtool.nn.graphs import GraphedNetwork
from msdtool.nn.scaling import ScaledNetwork, set_denormalising, set_normalising
from msdtool.progress import Progress
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
from msdtool.train.loop import Learner
from msdtool.train.losses import (
    CrossEntropyLoss,
    DiceLoss,
    GramLoss,
    Loss,
    RegressionLoss,
    SSIMLoss,
    WeightedSum,
    balanced_weights,
)
from msdtool.train.optim import Schedule, build_optimizer
from msdtool.train.processes import ALONE, Processes


def measure_normalisation(
    config: ExperimentConfig,
    pairs: Pairs,
    progress: Progress,
    processes: Processes = ALONE,
) -> Normalisation:
    """Measure the training set; each process measures its share.

    Args:
        config: the experiment.
        pairs: the training set.
        progress: called before each image, and each block of a large one, with the number of
            images measured and that of this process's share; may raise to stop.
        processes: those that train together; the result is the same on all.

    Raises:
        InputError: a file cannot be used, or no target pixel counts.
    """
    indices = pairs.to_measure()
    share = [indices[place] for place in processes.share(len(indices))]

    def measured() -> Statistics:
        return measure(pairs, config.num_labels, progress, share)

    parts = processes.gather(processes.together(measured))
    statistics = parts[0]
    for other in parts[1:]:
        statistics.add(other)
    input, target = statistics.input, statistics.target
    thickness = 2 * config.data.slab + 1  # every slice of a slab is scaled alike
    return Normalisation(
        input_mean=tuple(input.mean.tolist()) * thickness,
        input_std=tuple(input.std.tolist()) * thickness,
        target_mean=tuple(target.mean.tolist()),
        target_std=tuple(target.std.tolist()),
        data_range=0.0 if config.num_labels else _data_range(config, statistics),
        label_counts=tuple(_label_counts(config, statistics)),
    )


def _data_range(config: ExperimentConfig, statistics: Statistics) -> float:
    if not statistics.target.count:
        raise InputError(nothing_counts(config, "train"))
    measured = statistics.target.maximum - statistics.target.minimum
    return config.data.data_range or measured or 1.0


def _label_counts(config: ExperimentConfig, statistics: Statistics) -> list[int]:
    if config.num_labels and not statistics.label_counts.any():
        raise InputError(nothing_counts(config, "train"))
    return statistics.label_counts.tolist()


def nothing_counts(config: ExperimentConfig, name: str) -> str:
    """Say that no target pixel of the data set "train" or "validation" counts."""
    keys = f"data.ignore and data.{name}.mask" if config.num_labels else f"data.{name}.mask"
    kind = {"train": "training"}.get(name, name)
    return f"no pixel of the {kind} targets counts; look at {keys}"


def set_normalisation(network: ScaledNetwork, normalisation: Normalisation) -> None:
    """Set the network's scaling layers; a segmentation's scores are not scaled."""
    set_normalising(network.scale_in, normalisation.input_mean, normalisation.input_std)
    if not normalisation.label_counts:
        set_denormalising(network.scale_out, normalisation.target_mean, normalisation.target_std)


def build_loss(
    config: ExperimentConfig, normalisation: Normalisation, total: Total = of_one
) -> Loss:
    """Return the loss that training minimises; ``total`` as in `msdtool.train.losses`."""
    return WeightedSum(
        [
            (weight, _build_term(name, config, normalisation, total))
            for name, weight in config.training.loss_terms.items()
        ]
    )


def _build_term(
    name: str, config: ExperimentConfig, normalisation: Normalisation, total: Total
) -> Loss:
    """Return the loss that `TrainingConfig.loss_terms` calls ``name``."""
    if config.num_labels:
        return _build_label_term(name, config, normalisation, total)
    training = config.training
    mean, std = normalisation.target_mean, normalisation.target_std
    match name:
        case "SSIM":
            return SSIMLoss(normalisation.data_range, total=total)
        case "MS-SSIM":
            scales = training.ms_ssim_scales
            return MultiScaleSSIMLoss(normalisation.data_range, scales, total=total)
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
) -> Learner:
    """Return an untrained learner, its network on the device.

    Args:
        config: the experiment.
        network: what is trained.
        normalisation: of the training set.
        num_pairs: pairs in the training set.
        device: where to compute.
        processes: those that train together.
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
    )
    if training.cuda_graphs:
        learner.parallel = GraphedNetwork(network)
    return learner


def check_graphs(device: torch.device, num_processes: int) -> None:
    """Raise ConfigError where training cannot use CUDA graphs."""
    if device.type != "cuda" or num_processes > 1:
        raise ConfigError(
            "training.cuda_graphs: needs one process on a GPU; got "
            f"{num_processes} on {device.type}; set it to false"
        )


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

"""Losses, metrics, normalisation and learner of an experiment."""

from collections.abc import Callable

import torch

from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.data.build import build_batches
from msdtool.data.statistics import Statistics, measure
from msdtool.errors import ConfigError, InputError
from msdtool.nn.graphs import GraphedNetwork
from msdtool.nn.scaling import ScaledNetwork, set_denormalising, set_normalising
from msdtool.runs.checkpoint import Normalisation
from msdtool.train.loop import Learner
from msdtool.train.losses import (
    GramLoss,
    Loss,
    RegressionLoss,
    SegmentationLoss,
    SSIMLoss,
    Total,
    WeightedSum,
    balanced_weights,
    of_one,
)
from msdtool.train.metrics import Metrics, RegressionMetrics, SegmentationMetrics
from msdtool.train.optim import Schedule, build_optimizer
from msdtool.train.processes import ALONE, Processes


def measure_normalisation(
    config: ExperimentConfig,
    pairs: Pairs,
    check: Callable[[float, int], None],
    processes: Processes = ALONE,
) -> Normalisation:
    """Measure the training set, each process its share of it.

    Args:
        config: the experiment.
        pairs: the training set.
        check: called before each image, and each block of a large one, with the number of images
            that are done and that of all of this process's share; may raise to stop.
        processes: those that train together; all come to the same.

    Raises:
        InputError: a file cannot be used, or no target pixel counts.
    """
    indices = pairs.to_measure()
    share = [indices[place] for place in processes.share(len(indices))]

    def measured() -> Statistics:
        return measure(pairs, config.num_labels, lambda done: check(done, len(share)), share)

    parts = processes.gather(processes.together(measured))
    statistics = parts[0]
    for other in parts[1:]:
        statistics.add(other)
    input, target = statistics.input, statistics.target
    thickness = 2 * config.data.slab + 1  # every slice of a slab is scaled alike
    return Normalisation(
        input_mean=input.mean.tolist() * thickness,
        input_std=input.std.tolist() * thickness,
        target_mean=target.mean.tolist(),
        target_std=target.std.tolist(),
        data_range=0.0 if config.num_labels else _data_range(config, statistics),
        label_counts=_label_counts(config, statistics),
    )


def _data_range(config: ExperimentConfig, statistics: Statistics) -> float:
    if not statistics.target.count:
        raise InputError("no pixel of the training targets counts; look at data.train.mask")
    measured = statistics.target.maximum - statistics.target.minimum
    return config.data.data_range or measured or 1.0


def _label_counts(config: ExperimentConfig, statistics: Statistics) -> list[int]:
    if config.num_labels and not statistics.label_counts.any():
        raise InputError(
            "no pixel of the training targets counts; look at data.ignore and data.train.mask"
        )
    return statistics.label_counts.tolist()


def set_normalisation(network: ScaledNetwork, normalisation: Normalisation) -> None:
    """Set the network's scaling layers; a segmentation's scores are not scaled."""
    set_normalising(network.scale_in, normalisation["input_mean"], normalisation["input_std"])
    if not normalisation["label_counts"]:
        set_denormalising(
            network.scale_out, normalisation["target_mean"], normalisation["target_std"]
        )


def build_loss(
    config: ExperimentConfig, normalisation: Normalisation, total: Total = of_one
) -> Loss:
    """Return the loss that training minimises; ``total`` as in `msdtool.train.losses`."""
    loss = config.training.loss
    if isinstance(loss, str):
        return _build_term(loss, config, normalisation, total)
    return WeightedSum(
        [
            (weight, _build_term(name, config, normalisation, total))
            for name, weight in config.training.loss_terms.items()
        ]
    )


def _build_term(
    name: str, config: ExperimentConfig, normalisation: Normalisation, total: Total
) -> Loss:
    training, data_range = config.training, normalisation["data_range"]
    if config.task == "segmentation":
        weights = training.class_weights
        if weights == "balanced":
            weights = balanced_weights(normalisation["label_counts"])
        assert not isinstance(weights, str)
        return SegmentationLoss(name, weights, total=total)
    mean, std = normalisation["target_mean"], normalisation["target_std"]
    if name == "Gram":
        return GramLoss(mean, std, config.network.ndim, total=total)
    if name == "SSIM":
        return SSIMLoss(data_range, total=total)
    return RegressionLoss(
        name,
        std,
        huber_delta=training.huber_delta,
        ssim_weight=training.ssim_weight,
        data_range=data_range,
        total=total,
    )


def build_metrics(labels: list[int], data_range: float) -> Metrics:
    """Return a segmentation's metrics if there are labels, else a regression's."""
    return SegmentationMetrics(labels) if labels else RegressionMetrics(data_range)


def total_updates(config: ExperimentConfig, num_pairs: int) -> int:
    """Updates that all epochs together make."""
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
    """Return a learner that has not learnt yet, its network on the device.

    Args:
        config: the experiment.
        network: what learns.
        normalisation: of the training set.
        num_pairs: pairs in the training set.
        device: where to compute.
        processes: those that train together.
    """
    training = config.training
    network.to(device)
    optimizer = build_optimizer(
        training.optimizer, network.parameters(), training.learning_rate, training.weight_decay
    )
    schedule = Schedule(
        training.schedule, optimizer, total_updates(config, num_pairs), training.plateau_patience
    )
    loss = build_loss(config, normalisation, processes.total)
    learner = Learner(network, loss, optimizer, schedule, device, processes=processes)
    if training.cuda_graphs:
        learner.parallel = GraphedNetwork(network)
    return learner


def check_graphs(device: torch.device, num_processes: int) -> None:
    """Raise ConfigError where CUDA graphs cannot train."""
    if device.type != "cuda" or num_processes > 1:
        raise ConfigError(
            "training.cuda_graphs: needs one process on a GPU; got "
            f"{num_processes} on {device.type}; set it to false"
        )

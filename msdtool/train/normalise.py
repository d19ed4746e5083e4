"""Measuring the training set, and setting the layers that scale images by what is measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.data.own_levels import with_levels
from msdtool.data.pairing import finite_sample
from msdtool.data.patches import BLOCK_PIXELS, blocks
from msdtool.data.percentiles import Counts, Values, percentiles
from msdtool.data.statistics import Statistics, counted_target, measure, pixels
from msdtool.errors import InputError
from msdtool.nn.scaling import ScaledNetwork, set_denormalising, set_normalising
from msdtool.progress import Progress, no_progress
from msdtool.runs.model import Normalisation
from msdtool.scaling import Scaling
from msdtool.train.processes import ALONE, Processes


class Levels(NamedTuple):
    """What is subtracted from values per channel, and what they are divided by then."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """What a training set says.

    Attributes:
        normalisation: its statistics.
        input: levels that the network's first layer scales inputs by.
        target: levels that its last layer scales outputs back by; None for a segmentation.
    """

    normalisation: Normalisation
    input: Levels
    target: Levels | None

    def set_layers(self, network: ScaledNetwork) -> None:
        """Set the network's scaling layers; a segmentation's scores are not scaled."""
        set_normalising(network.scale_in, *self.input)
        if self.target is not None:
            set_denormalising(network.scale_out, *self.target)


def know_levels(
    pairs: Pairs, progress: Progress = no_progress, processes: Processes = ALONE
) -> None:
    """Measure the levels of all images where each has its own; each process measures its share.

    Crops and worker processes then find them measured.

    Args:
        pairs: the data set.
        progress: called before each image; may raise to stop.
        processes: those that train together.

    Raises:
        InputError: a file cannot be used, or an image has no contrast.
    """
    own = with_levels(pairs)
    if own is None:
        return
    share = processes.share(len(own))

    def found() -> dict[int, Tensor]:
        for done, index in enumerate(share):
            progress(done, len(share))
            own.levels(index)
        return {index: own.known[index] for index in share}

    for known in processes.gather(processes.together(found)):
        own.known.update(known)


def measure_normalisation(
    config: ExperimentConfig,
    pairs: Pairs,
    progress: Progress = no_progress,
    processes: Processes = ALONE,
) -> Measured:
    """Measure the training set; each process measures its share.

    Args:
        config: the experiment.
        pairs: the training set.
        progress: called before each image, and each block of a large one, with the number of
            images measured and that of this process's share; may raise to stop.
        processes: those that train together; the result is the same on all.

    Raises:
        InputError: a file cannot be used, no target pixel counts, or the levels are equal.
    """
    know_levels(pairs, progress, processes)
    indices = pairs.to_measure()
    share = [indices[place] for place in processes.share(len(indices))]

    def measured() -> Statistics:
        return measure(pairs, config.num_labels, progress, share)

    parts = processes.gather(processes.together(measured))
    statistics = parts[0]
    for other in parts[1:]:
        statistics.add(other)
    normalisation = _normalisation(config, statistics)
    input, target = _levels(config, pairs, share, normalisation, progress, processes)
    thickness = 2 * config.data.slab + 1
    input = Levels(input.shift * thickness, input.scale * thickness)
    groups = config.output_groups  # bounds of targets are scaled like these
    normalisation = replace(
        normalisation,
        target_mean=normalisation.target_mean * groups,
        target_std=normalisation.target_std * groups,
    )
    target = Levels(target.shift * groups, target.scale * groups)
    return Measured(normalisation, input, None if config.num_labels else target)


def _normalisation(config: ExperimentConfig, statistics: Statistics) -> Normalisation:
    input, target = statistics.input, statistics.target
    thickness = 2 * config.data.slab + 1  # every slice of a slab is scaled alike
    return Normalisation(
        input_mean=tuple(input.mean.tolist()) * thickness,
        input_std=tuple(input.std.tolist()) * thickness,
        target_mean=tuple(target.mean.tolist()),
        target_std=tuple(target.std.tolist()),
        data_range=0.0 if config.num_labels else _data_range(config, statistics),
        label_counts=tuple(_label_counts(config, statistics)),
        own_range=(target.maximum - target.minimum or 1.0) if statistics.values.count else 0.0,
    )


def _levels(
    config: ExperimentConfig,
    pairs: Pairs,
    share: Sequence[int],
    normalisation: Normalisation,
    progress: Progress,
    processes: Processes,
) -> tuple[Levels, Levels]:
    """What the layers scale the images of a slice, and the targets, by."""
    how = config.data.normalisation.to_scaling()
    channels = len(normalisation.input_mean) // (2 * config.data.slab + 1)
    c_out = len(normalisation.target_mean)
    usual = Levels(normalisation.target_mean, normalisation.target_std)
    if how.is_per_image:
        return _same((0, 1), channels), _same((0, 1), c_out) if how.target == "input" else usual
    match how.method:
        case "mean_std":
            input = normalisation.input_mean[:channels], normalisation.input_std[:channels]
            return Levels(*input), usual
        case "percentile":
            found = [
                _percentiles(how, kind, pairs, share, count, progress, processes)
                for kind, count in (("input", channels), ("target", c_out))
                if count
            ]
            return found[0], found[-1]
        case "range":
            return _same(how.range, channels), _same(how.target_range or how.range, c_out)
        case _:
            return _same((0, 1), channels), _same((0, 1), c_out)


def _same(values: Sequence[float], channels: int) -> Levels:
    """Levels that map two values to 0 and 1, in all channels."""
    low, high = values
    return Levels((float(low),) * channels, (float(high) - float(low),) * channels)


def _percentiles(
    how: Scaling,
    kind: str,
    pairs: Pairs,
    share: Sequence[int],
    channels: int,
    progress: Progress,
    processes: Processes,
) -> Levels:
    """Levels of the inputs or targets of all processes' shares."""

    def read() -> Iterator[Values]:
        for done, index in enumerate(share):
            progress(done, len(share))
            for window in blocks(pairs.space(index), BLOCK_PIXELS):
                sample = finite_sample(pairs, index, window, central_only=True)
                found = pixels(sample.input) if kind == "input" else counted_target(sample)
                yield found.astype(np.float32)

    def total(count: Callable[[], Counts]) -> Counts:
        return np.sum(processes.gather(processes.together(count)), axis=0, dtype=np.int64)

    low, high = percentiles(read, channels, how.percentiles, total)
    if (low == high).any():
        channel = int(np.flatnonzero(low == high)[0])
        raise InputError(
            f"data.normalisation: the percentiles {how.percentiles[0]:g} and "
            f"{how.percentiles[1]:g} of the training {kind}s are both {low[channel]:g}"
            f"{f' in channel {channel} (from 0)' if channels > 1 else ''}; choose others, or "
            "another method"
        )
    return Levels(tuple(low.tolist()), tuple((high - low).tolist()))


def _data_range(config: ExperimentConfig, statistics: Statistics) -> float:
    if not statistics.target.count:
        raise InputError(nothing_counts(config, "train"))
    return config.data.data_range or statistics.target_range or 1.0


def _label_counts(config: ExperimentConfig, statistics: Statistics) -> list[int]:
    if config.num_labels and not statistics.label_counts.any():
        raise InputError(nothing_counts(config, "train"))
    return statistics.label_counts.tolist()


def nothing_counts(config: ExperimentConfig, name: str) -> str:
    """Say that no target pixel of the data set "train" or "validation" counts."""
    keys = f"data.ignore and data.{name}.mask" if config.num_labels else f"data.{name}.mask"
    kind = {"train": "training"}.get(name, name)
    return f"no pixel of the {kind} targets counts; look at {keys}"

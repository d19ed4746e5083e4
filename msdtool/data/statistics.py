"""Statistics of the pixels of a data set: one pass over the files, in float64."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.labels import IGNORED
from msdtool.data.levels import in_own_scale
from msdtool.data.moments import Moments, Vector
from msdtool.data.pairing import finite_sample
from msdtool.data.patches import BLOCK_PIXELS, blocks
from msdtool.errors import InputError
from msdtool.progress import Progress, no_progress


@dataclass
class Statistics:
    """Statistics of a training set.

    Attributes:
        input: moments of the input images; for slabs, of their central slices.
        target: moments of the target pixels that count; unused if they are labels.
        label_counts: number of pixels per class index, empty for a regression.
        values: moments of these target pixels in the data's units, where they are scaled by levels
            of their image; ``target`` are those of what this makes of them.
    """

    input: Moments
    target: Moments
    label_counts: np.ndarray[Any, np.dtype[np.int64]]
    values: Moments = field(default_factory=Moments)

    @property
    def target_range(self) -> float:
        """Maximum minus minimum of the target pixels that count, in the data's units."""
        moments = self.values if self.values.count else self.target
        return moments.maximum - moments.minimum

    def add(self, other: "Statistics") -> None:
        """Add the pairs of another."""
        self.input.merge(other.input)
        self.target.merge(other.target)
        self.label_counts += other.label_counts
        self.values.merge(other.values)


def measure(
    pairs: Pairs,
    num_labels: int = 0,
    progress: Progress = no_progress,
    indices: Sequence[int] | None = None,
) -> Statistics:
    """Read all pairs once, or the given ones, and return their statistics.

    Args:
        pairs: the data set.
        num_labels: number of labels of the targets; 0 for a regression.
        progress: called before each pair, and each block of a large one, with the number of pairs
            done; may raise to stop.
        indices: of the pairs to measure; None: `Pairs.to_measure`.

    Raises:
        InputError: a file cannot be used, its number of channels differs from that of the first
            one, or it contains non-finite values.
    """
    statistics = Statistics(Moments(), Moments(), np.zeros(num_labels, dtype=np.int64))
    first: Sample | None = None
    reference = pairs.to_measure()[0]
    measured = pairs.to_measure() if indices is None else indices
    for number, index in enumerate(measured):
        space = pairs.space(index)
        for window in blocks(space, BLOCK_PIXELS):
            progress(number + window[0].start / space[0], len(measured))
            sample = finite_sample(pairs, index, window, central_only=True)
            if first is None:
                first = sample if index == reference else _start_of(pairs, reference)
            names = pairs.name(index), pairs.name(reference)
            _check_channels(sample.input, first.input, *names, "input")
            names = pairs.target_name(index), pairs.target_name(reference)
            _check_channels(sample.target, first.target, *names, "target")
            own = in_own_scale(sample)
            statistics.input.add(pixels(own.input))
            if num_labels:
                statistics.label_counts += count_labels(sample.target, num_labels)
                continue
            statistics.target.add(counted_target(own))
            if sample.target_levels is not None:
                statistics.values.add(counted_target(sample))
    return statistics


def _start_of(pairs: Pairs, index: int) -> Sample:
    """The first block of a pair."""
    window = next(blocks(pairs.space(index), BLOCK_PIXELS))
    return finite_sample(pairs, index, window, central_only=True)


def _check_channels(image: Tensor, first: Tensor, name: str, first_name: str, kind: str) -> None:
    if image.shape[0] != first.shape[0]:
        raise InputError(
            f"{name} has {image.shape[0]} channels, {first_name} has {first.shape[0]}; all {kind} "
            "images need the same number, or set data.collapse_channels: true"
        )


def count_labels(target: Tensor, num_labels: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number of pixels per class index, without those that do not count."""
    indices = target.numpy().ravel()
    return np.bincount(indices[indices != IGNORED], minlength=num_labels)


def counted_target(sample: Sample) -> Vector:
    """The values per channel of the target pixels that count, [C, N]."""
    values = pixels(sample.target)
    if sample.mask is not None:
        values = values[:, sample.mask.numpy().ravel()]
    return values


def pixels(image: Tensor) -> Vector:
    """The values per channel, [C, N]."""
    return image.numpy().reshape(image.shape[0], -1).astype(np.float64)

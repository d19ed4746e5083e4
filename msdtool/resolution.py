"""The resolution of images from two halves of the data, without a clean image."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from msdtool.data import ImageStack
from msdtool.data.pair_names import disagreeing_pairs
from msdtool.data.spacing import spacing
from msdtool.errors import InputError
from msdtool.measure.rings import FIXED_THRESHOLD, Array, RingCorrelation, crossing
from msdtool.progress import Progress, no_progress


@dataclass(frozen=True)
class Resolution:
    """How two halves correlate, and where this ends.

    Attributes:
        unit: of lengths: that of the files, or "pixels".
        nyquist: the smallest resolution that such pixels allow, two of the largest.
        frequencies: of each ring, in periods per unit.
        correlation: in each ring.
        half_bit: the half-bit threshold in each ring.
        pairs: number of pairs of images.
        disagreeing: names of the first pair of files whose names disagree, if there is one.
    """

    unit: str
    nyquist: float
    frequencies: Array
    correlation: Array
    half_bit: Array
    pairs: int
    disagreeing: tuple[str, str] | None

    def resolution(self, criterion: str) -> float | None:
        """The length of a period at which the correlation falls below "half-bit" or "1/7".

        Returns:
            `nyquist` if it never does, None if it does from the first ring on.
        """
        fixed = np.full_like(self.half_bit, FIXED_THRESHOLD)
        threshold = {"half-bit": self.half_bit, "1/7": fixed}[criterion]
        frequency = crossing(self.frequencies, self.correlation, threshold)
        if frequency is None:
            return self.nyquist
        return 1 / frequency if frequency else None

    def to_dict(self) -> dict[str, Any]:
        """All results, as plain data."""
        return {
            "resolution": {name: self.resolution(name) for name in ("half-bit", "1/7")},
            "unit": self.unit,
            "nyquist": self.nyquist,
            "pairs": self.pairs,
            "frequencies": self.frequencies.tolist(),
            "correlation": self.correlation.tolist(),
            "half_bit": self.half_bit.tolist(),
        }


def measure_resolution(
    first: ImageStack, second: ImageStack, *, disc: bool = False, progress: Progress = no_progress
) -> Resolution:
    """Correlate the images of two halves, ring by ring or, of volumes, shell by shell.

    Args:
        first, second: images of the same object with noise of their own, paired in order; all have
            the same size. Their channels are correlated one by one.
        disc: see `RingCorrelation`.
        progress: called after each pair.

    Raises:
        InputError: images cannot be read, paired or correlated.
    """
    if len(first) != len(second):
        raise InputError(
            f"the halves have {len(first)} images ({first.name(0)} ...) and {len(second)} "
            f"({second.name(0)} ...); each image needs its partner"
        )
    sizes, unit = spacing(next(iter(first.files())), first.ndim)
    try:
        rings = RingCorrelation(first.space(0), sizes, disc=disc)
    except ValueError as error:
        raise InputError(f"{first.name(0)}: has {error}") from None
    for index in range(len(first)):
        _add(rings, first, second, index)
        progress(index + 1, len(first))
    names = disagreeing_pairs([first.paths, second.paths])[:1]
    return Resolution(
        unit,
        2 * max(sizes),
        rings.frequencies,
        rings.values,
        rings.half_bit,
        len(first),
        (names[0][0].name, names[0][1].name) if names else None,
    )


def _add(rings: RingCorrelation, first: ImageStack, second: ImageStack, index: int) -> None:
    """Add each channel of a pair of images."""
    images = [stack[index].double().numpy() for stack in (first, second)]
    if images[0].shape != images[1].shape or images[0].shape[1:] != rings.shape:
        shapes = [" x ".join(map(str, image.shape)) for image in images]
        sizes = " x ".join(map(str, rings.shape))
        raise InputError(
            f"{first.name(index)} has the shape {shapes[0]}, {second.name(index)} {shapes[1]}; all "
            f"images need that of the first one: {sizes} pixels"
        )
    for stack, image in zip((first, second), images, strict=True):
        if not np.isfinite(image).all():
            raise InputError(f"{stack.name(index)}: holds NaN or infinite values")
    for channels in zip(*images, strict=True):
        try:
            rings.add(*channels)
        except ValueError as error:
            raise InputError(f"{first.name(index)}, {second.name(index)}: {error}") from None

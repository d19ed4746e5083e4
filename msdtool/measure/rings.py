"""Fourier ring and shell correlation: up to which detail two images agree."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

FIXED_THRESHOLD = 1 / 7
"""Of half data sets: 0.143, where the correlation of the sum with the truth is 0.5; see
`RingCorrelation`."""
HALF_BIT = (2**0.5 - 1) / 2
"""Signal-to-noise ratio of each half where their sum has half a bit of information per pixel."""


class RingCorrelation:
    """The correlation of pairs of images in rings, or shells, of their Fourier transforms.

    It is the Fourier ring correlation (Saxton & Baumeister, J. Microsc. 127, 1982), of volumes the
    Fourier shell correlation (Harauz & van Heel, Optik 73, 1986). Sums run over all pairs that were
    added. A ring is as wide as the frequency step of the axis with the shortest extent.

    Args:
        shape: of the images, two or three axes of at least 8 pixels.
        spacing: from pixel to pixel along each axis, in any unit.
        disc: the images are zero outside the largest ellipse or ellipsoid, like reconstructions of
            tomography; what lies there is left out.

    Raises:
        ValueError: an axis is too short.
    """

    def __init__(
        self, shape: Sequence[int], spacing: Sequence[float] | None = None, *, disc: bool = False
    ) -> None:
        if min(shape) < 8:
            raise ValueError(f"{' x '.join(map(str, shape))} pixels; rings need 8 along each axis")
        self.shape = tuple(shape)
        self.spacing = tuple(spacing or (1.0,) * len(shape))
        self.num_pairs = 0
        self._window = _window(self.shape, disc)
        self._step = max(1 / (n * d) for n, d in zip(self.shape, self.spacing, strict=True))
        largest = 0.5 / max(self.spacing)
        self._num_rings = int(largest / self._step + 1e-9) + 1
        self._sums = np.zeros((3, self._num_rings))

    @cached_property
    def _rings(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The ring of each coefficient of `numpy.fft.rfftn`; those beyond the last share one."""
        axes = [np.fft.fftfreq(n, d) for n, d in zip(self.shape, self.spacing, strict=True)]
        axes[-1] = np.fft.rfftfreq(self.shape[-1], self.spacing[-1])
        grid = np.meshgrid(*axes, indexing="ij", sparse=True)
        radius = np.sqrt(sum(np.square(axis) for axis in grid))
        return np.minimum(np.rint(radius / self._step), self._num_rings).astype(np.int64).ravel()

    @cached_property
    def _times(self) -> Array:
        """How often each coefficient of `numpy.fft.rfftn` stands in the whole transform."""
        times = np.full(self.shape[-1] // 2 + 1, 2.0)
        times[0] = 1
        if self.shape[-1] % 2 == 0:
            times[-1] = 1
        return times

    def add(self, first: Array, second: Array) -> None:
        """Add a pair of images of this shape, float64.

        Raises:
            ValueError: an image is constant, or both are the same.
        """
        if np.array_equal(first, second):
            raise ValueError("is the same image as its partner; halves have noise of their own")
        one, two = (self._transform(image) for image in (first, second))
        products = (one * two.conj()).real, np.square(np.abs(one)), np.square(np.abs(two))
        self._sums += np.stack([self._sum(product) for product in products])
        self.num_pairs += 1

    def _transform(self, image: Array) -> np.ndarray[Any, np.dtype[np.complex128]]:
        mean = (image * self._window).sum() / self._window.sum()
        centred = (image - mean) * self._window
        if np.abs(centred).max() <= 1e-12 * abs(mean):
            raise ValueError("is constant")
        return np.fft.rfftn(centred)

    def _sum(self, values: Array) -> Array:
        """Sum values of the coefficients over each ring."""
        weights = (values * self._times).ravel()
        sums = np.bincount(self._rings, weights, self._num_rings + 1)
        return sums[: self._num_rings].astype(np.float64)

    @property
    def frequencies(self) -> Array:
        """The middle of each ring but that of frequency 0, in periods per unit of the spacing."""
        return np.arange(1, self._num_rings, dtype=np.float64) * self._step

    @property
    def values(self) -> Array:
        """The correlation in each of these rings, -1 to 1; 0 where an image has nothing there."""
        products, first, second = self._sums[:, 1:]
        scale = np.sqrt(first * second)
        return np.divide(products, scale, out=np.zeros_like(scale), where=scale > 0)

    @property
    def counts(self) -> Array:
        """How many Fourier coefficients each of these rings holds, over all pairs."""
        return self._sum(np.ones((*self.shape[:-1], self._times.size)))[1:] * self.num_pairs

    @property
    def half_bit(self) -> Array:
        """The half-bit threshold of each ring (van Heel & Schatz, J. Struct. Biol. 151, 2005)."""
        return half_bit_threshold(self.counts)


def half_bit_threshold(counts: Array) -> Array:
    """Return the correlation of halves that stands for half a bit of information per pixel.

    It is that of van Heel & Schatz (J. Struct. Biol. 151, 2005): of their constants, 0.2071 is the
    signal-to-noise ratio s of each half, 0.9102 is 2 sqrt(s), and the others are more by 1.

    Args:
        counts: number of Fourier coefficients in each ring.
    """
    spread = 1 / np.sqrt(counts)
    root = 2 * HALF_BIT**0.5
    result: Array = (HALF_BIT + (root + 1) * spread) / (HALF_BIT + 1 + root * spread)
    return result


def crossing(frequencies: Array, values: Array, threshold: Array) -> float | None:
    """Return the frequency at which the correlation first falls below the threshold.

    Between rings both are interpolated.

    Args:
        frequencies, values, threshold: of each ring.

    Returns:
        0.0 if the first ring is below the threshold; None if no ring is.
    """
    above = values - threshold
    below = np.flatnonzero(above < 0)
    if below.size == 0:
        return None
    ring = int(below[0])
    if ring == 0:
        return 0.0
    part = above[ring - 1] / (above[ring - 1] - above[ring])
    return float(frequencies[ring - 1] + part * (frequencies[ring] - frequencies[ring - 1]))


def _window(shape: Sequence[int], disc: bool) -> Array:
    """A window that falls to 0 at the border: edges of the image correlate at every frequency."""
    grid = np.meshgrid(*(_centred(size) for size in shape), indexing="ij", sparse=True)
    if disc:
        return _taper(np.sqrt(sum(np.square(axis) for axis in grid)))
    window = np.ones(tuple(shape))
    for axis in grid:
        window *= _taper(np.abs(axis))
    return window


def _centred(size: int) -> Array:
    """Places of pixels from -1 to 1, the borders of the image."""
    return (np.arange(size) + 0.5) * 2 / size - 1


def _taper(distance: Array) -> Array:
    """A Tukey window: 1 up to 3/4 of the way from the centre to the border, then half a cosine."""
    way = np.clip((distance - 0.75) / 0.25, 0, 1)
    return 0.5 * (1 + np.cos(np.pi * way))

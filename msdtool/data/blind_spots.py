"""Noise2Void: learning to denoise from single noisy images.

Some pixels of the input are hidden, and the network has to predict their noisy values from what is
around them: it can only learn the image, if the noise of a pixel is independent of all others
(Krull, Buchholz & Jug, Noise2Void, CVPR 2019). Replacing hidden pixels by medians avoids the
checkerboards of random ones (Hoeck et al., N2V2, ECCV Workshops 2022). Noise that is correlated
along an axis needs longer masks (Broaddus et al., structN2V, ISBI 2020).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.pairs_view import PairsView
from msdtool.data.patches import Window
from msdtool.errors import InputError
from msdtool.wording import size_text

Places = NDArray[np.int64]
"""Pixels [N, 3] of a volume, or of slices one of which is looked at."""

AXES = "ZYX"
CHUNK = 2**22
"""Values that are gathered at once for medians."""


class BlindSpots:
    """Hides random pixels of the inputs; only these count in the target.

    One pixel is drawn from each box of a grid whose boxes have 1 / ``fraction`` pixels, so that the
    spots do not cluster (the paper's stratified sampling: 64 of 64 x 64 pixels, ``fraction`` 1/64).
    All channels of a pixel are hidden together. Values come from the window around the spot, cut
    off at the border, without the spot and its mask; of a slab's central slice, in which all spots
    are.

    Args:
        fraction: of the pixels, hidden and counted.
        radius: of the window, in pixels: 2 stands for 5 x 5, or 5 x 5 x 5 in a volume.
        median: take the median of the window; else the value of a random pixel of it.
        mask: pixels that are also hidden before and after a spot, by axis: {"X": 5} hides 11 in a
            row. Each gets a value as the spot does, and does not count.
    """

    def __init__(
        self, fraction: float, radius: int, *, median: bool = False, mask: Mapping[str, int]
    ) -> None:
        self.fraction, self.radius, self.median = fraction, radius, median
        self.mask = np.array([mask.get(axis, 0) for axis in AXES])

    def __call__(self, sample: Sample, rng: np.random.Generator, slab: int = 0) -> Sample:
        """Return the sample with hidden pixels.

        Args:
            sample: input and target are the same noisy image, of a slab its central slice.
            rng: source of randomness.
            slab: slices above, and below, the central one of the input.

        Raises:
            InputError: the image is too small to have a window around each pixel.
        """
        space = sample.target.shape[1:]
        if min(space[-2:]) < 2:
            raise InputError(
                f"a sample of {size_text(space)} pixels is too small for data.train.blind_spot; "
                "images, and data.crop, need at least 2 pixels in a row and in a column"
            )
        is_volume = len(space) == 3
        volume = sample.input.numpy().copy()
        if not is_volume:  # slices as the first spatial axis
            volume = np.moveaxis(volume.reshape(2 * slab + 1, -1, *space), 0, 1).copy()
        reach = np.array([self.radius if is_volume else 0, self.radius, self.radius])
        spots = stratified(space, self.fraction, rng)
        if not is_volume:
            spots = np.insert(spots, 0, slab, axis=1)
        hidden = volume.copy()
        for offset in self._offsets():
            places = spots + offset
            inside = ((places >= 0) & (places < volume.shape[1:])).all(1)
            where = tuple(places[inside].T)
            hidden[(slice(None), *where)] = self._values(volume, spots[inside], reach, rng)
        counted = np.zeros(volume.shape[1:], dtype=bool)
        counted[tuple(spots.T)] = True
        if not is_volume:
            hidden = np.moveaxis(hidden, 1, 0).reshape(sample.input.shape)
            counted = counted[slab]
        mask = torch.from_numpy(counted)[None]
        if sample.mask is not None:
            mask &= sample.mask
        # The target stays whole: pixels that do not count are part of SSIM's windows, and previews.
        return sample._replace(input=torch.from_numpy(np.ascontiguousarray(hidden)), mask=mask)

    def _offsets(self) -> Iterator[NDArray[np.int64]]:
        """From a spot to all pixels that are hidden with it; itself last, as spots may meet."""
        for axis, length in enumerate(self.mask):
            for step in (*range(-length, 0), *range(1, length + 1)):
                yield step * np.eye(3, dtype=np.int64)[axis]
        yield np.zeros(3, dtype=np.int64)

    def _is_masked(self, offsets: Places) -> NDArray[np.bool_]:
        """Whether pixels at offsets [..., 3] from a spot are hidden with it."""
        along = (offsets != 0).sum(-1) <= 1
        found: NDArray[np.bool_] = along & (abs(offsets) <= self.mask).all(-1)
        return found

    def _values(
        self, volume: NDArray[np.float32], spots: Places, reach: Places, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """A value [C, N] for each spot from the window around it."""
        size = np.array(volume.shape[1:])
        if self.median:
            return self._medians(volume, spots, reach)
        low, high = np.maximum(spots - reach, 0), np.minimum(spots + reach + 1, size)
        found = rng.integers(low, high)
        again = np.flatnonzero(self._is_masked(found - spots))
        while len(again):
            found[again] = rng.integers(low[again], high[again])
            again = again[self._is_masked(found[again] - spots[again])]
        values: NDArray[np.float32] = volume[(slice(None), *found.T)]
        return values

    def _medians(
        self, volume: NDArray[np.float32], spots: Places, reach: Places
    ) -> NDArray[np.float32]:
        steps = [range(-int(length), int(length) + 1) for length in reach]
        window = np.array(list(itertools.product(*steps)))
        window = window[~self._is_masked(window)]
        size, step = np.array(volume.shape[1:]), max(1, CHUNK // (len(window) * len(volume)))
        values = np.empty((len(volume), len(spots)), dtype=np.float32)
        for start in range(0, len(spots), step):
            places = spots[start : start + step, None] + window
            outside = ((places < 0) | (places >= size)).any(-1)
            where = np.clip(places, 0, size - 1)
            found = volume[(slice(None), *np.moveaxis(where, -1, 0))]
            ordered = np.sort(np.where(outside, np.float32(np.inf), found))
            count = np.broadcast_to((~outside).sum(-1), ordered.shape[:-1])[..., None]
            middle = [np.take_along_axis(ordered, at, -1) for at in ((count - 1) // 2, count // 2)]
            values[:, start : start + step] = (middle[0] + middle[1])[..., 0] / 2
        return values


def stratified(space: Sequence[int], fraction: float, rng: np.random.Generator) -> Places:
    """Draw one pixel from each box of a grid with 1 / ``fraction`` pixels in each box.

    The grid starts at a corner; what is drawn beyond the opposite borders is left out, so that
    every pixel has the same chance.

    Returns:
        Pixels [N, ndim].
    """
    side = fraction ** (-1 / len(space))
    counts = [math.ceil(length / side) for length in space]
    boxes = np.indices(counts).reshape(len(space), -1).T
    places = np.floor((boxes + rng.random(boxes.shape)) * side).astype(np.int64)
    kept: Places = places[(places < space).all(1)]
    return kept


class BlindPairs(PairsView):
    """Pairs whose inputs have hidden pixels, always the same, to validate on.

    Args:
        pairs: of noisy images and themselves.
        spots: what is hidden.
        seed: of the spots.
    """

    def __init__(self, pairs: Pairs, spots: BlindSpots, seed: int) -> None:
        super().__init__(pairs)
        self.spots, self.seed = spots, seed

    def sample(
        self, index: int, window: Window | None = None, *, central_only: bool = False
    ) -> Sample:
        """Read pair ``index`` and hide pixels of it; see `Pairs.sample`."""
        sample = self.pairs.sample(index, window, central_only=central_only)
        if window is not None and min(sample.target.shape[-2:]) < 2:
            # The last row of an image that is read block by block: there is nothing to hide it by.
            nothing = torch.zeros(1, *sample.target.shape[1:], dtype=torch.bool)
            return sample._replace(mask=nothing)
        corner = [] if window is None else [part.start for part in window]
        rng = np.random.default_rng([self.seed, index, *corner])
        return self.spots(sample, rng, 0 if central_only else self.slab)

"""What a result holds."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Result:
    """What a result holds.

    Attributes:
        counts: sizes of the axes that count images, () for a single image.
        names: a letter for each of these.
        image: shape [C, *space] of an image; a single channel is written without its axis.
        dtype: of the pixels.
        origin: what it is made of, plain data.
        inner: path of the array in an HDF5 file or a zarr store.
    """

    counts: tuple[int, ...]
    names: str
    image: tuple[int, ...]
    dtype: str
    origin: dict[str, Any]
    inner: str = ""

    @property
    def num_images(self) -> int:
        """Number of images."""
        return prod(self.counts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that is written."""
        return self.counts + (self.image if self.image[0] > 1 else self.image[1:])

    @property
    def axes(self) -> str:
        """A letter per axis of that array."""
        channels = "C" if self.image[0] > 1 else ""
        return self.names + channels + "ZYX"[1 - len(self.image) :]

    def key(self, index: int, start: int, count: int, axis: int) -> tuple[Any, ...]:
        """Return the index into that array of some slices of an image across a spatial axis."""
        place = np.unravel_index(index, self.counts) if self.counts else ()
        before = axis + (1 if self.image[0] > 1 else 0)
        return (*map(int, place), *[slice(None)] * before, slice(start, start + count))

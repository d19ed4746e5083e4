"""What a result holds."""

from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from msdtool.data.metadata import Description, tiff


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
        name: of its file.
        compression: one of `msdtool.data.sinks.COMPRESSIONS`; None: that of the format.
        are_labels: whether its pixels are labels.
        description: what it says about itself.
    """

    counts: tuple[int, ...]
    names: str
    image: tuple[int, ...]
    dtype: str
    origin: dict[str, Any]
    inner: str = ""
    name: str = ""
    compression: str | None = None
    are_labels: bool = False
    description: Description = field(default_factory=Description)

    @property
    def identity(self) -> dict[str, Any]:
        """Plain data by which a later try knows the result: all that its pixels depend on."""
        content = asdict(replace(self, description=Description()))
        del content["description"]
        return content | {"packing": self.description.packing}

    @property
    def num_images(self) -> int:
        """Number of images."""
        return prod(self.counts)

    @property
    def dataset(self) -> str:
        """The array's path in an HDF5 file."""
        return self.inner or "data"

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


def tiff_header(result: Result) -> dict[str, Any]:
    """Return the arguments of `tifffile.imwrite` for a result, see `msdtool.data.metadata.tiff`.

    Raises:
        InputError: OME-TIFF has no such pixels.
    """
    return tiff.header(
        result.name, result.shape, result.axes, np.dtype(result.dtype), result.description
    )

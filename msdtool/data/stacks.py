"""A stack of images on disk, read one at a time."""

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.data.containers.registry import suffix_of
from msdtool.data.labels import LabelMap
from msdtool.data.neighbours import find_series
from msdtool.data.patches import Window
from msdtool.data.readers import (
    Array,
    arrangement,
    count_images,
    image_name,
    is_raster_image,
    notes,
    opacity,
    read_image,
)
from msdtool.data.specifiers import Location, Specifier, expand
from msdtool.errors import InputError

OPACITY = (
    "channel {channel} (from 0) is opacity, which the network would take as one more colour; save "
    "the images without it, or set data.collapse_channels: true"
)


class ImageStack:
    """The images that a path specifier names, in natural order: scan1.tif before scan10.tif.

    Images are read on access, as torch tensors: ``ImageStack("*.tif")[0]``. If a file contains
    several images, such as the slices of a volume, each of them is an image of the stack. Initially
    only the first file of each kind is opened: if it contains one image, so must the others.

    Args:
        path_specifier: a path with optional glob pattern, a folder, a file, a list of these, or a
            `Source` that also names axes; see `msdtool.data.specifiers`.
        collapse_channels: average the channels of each image.
        labels: k if the pixels are labels in {0, ..., k-1}, or the list of label values. Images
            are then int64 class indices instead of float32 values.
        ignore: label value of pixels that do not count; their index is -100.
        ndim: number of spatial axes of an image, 2 or 3.
        factor: values that are not labels are multiplied by it.

    Attributes:
        paths: the file of each image.

    Raises:
        InputError: the specifier names no file, or the first file cannot be read.
    """

    reads_indices = False
    """Whether images with a palette are read as indices, not as colours."""

    def __init__(
        self,
        path_specifier: Specifier,
        *,
        collapse_channels: bool = False,
        labels: int | Sequence[int] | None = None,
        ignore: int | None = None,
        ndim: int = 2,
        factor: float = 1.0,
    ) -> None:
        self._images = _list_images(expand(path_specifier), ndim)
        self.paths: list[Path] = [location.path for location, _ in self._images]
        self.collapse_channels = collapse_channels
        self.label_map = None if labels is None else LabelMap(labels, ignore)
        self.reads_indices = self.reads_indices or labels is not None
        self.ndim = ndim
        self.factor = factor
        self._unlisted: list[Location] = []
        self._cache: dict[int, Tensor] | None = None

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        """Return image ``index``, [C, H, W] or [C, D, H, W], float32 or int64 for labels.

        Raises:
            InputError: the file cannot be read, or contains a value that is not a label.
        """
        return self.read(range(len(self))[index])

    @property
    def locations(self) -> list[Location]:
        """Where each image is."""
        return [location for location, _ in self._images]

    def files(self) -> dict[Location, range]:
        """Each file, and the images in it; of a file that is named twice, the first ones."""
        found: dict[Location, range] = {}
        for index, (location, number) in enumerate(self._images):
            first = index - (number or 0)
            if found.setdefault(location, range(first, index)).start == first:
                found[location] = range(first, index + 1)
        return found

    @property
    def has_volumes(self) -> bool:
        """Whether a file contains several images, such as the slices of a volume."""
        return any(number is not None for _, number in self._images)

    def name(self, index: int) -> str:
        """The name of image ``index`` in messages: its file, and which of its images it is."""
        return image_name(*self._image(index))

    def _image(self, index: int) -> tuple[Location, int | None]:
        """Image ``index``, or one of `surroundings`."""
        listed = len(self._images)
        return self._images[index] if index < listed else (self._unlisted[index - listed], None)

    def volume(self, index: int) -> range:
        """The images that are slices of the same volume as image ``index``.

        These are the images of the same file; if files contain one image each, the adjacent ones in
        the same folder.
        """
        return self._volumes[index]

    def surroundings(self, index: int) -> Sequence[int]:
        """All slices of the volume of image ``index`` in order, listed in this stack or not.

        These are the images of the same file; if files contain one image each, those of the series
        in its folder, see `find_series`. `read` and `name` take the numbers of all of them.

        Raises:
            InputError: a folder cannot be read.
        """
        return self._surroundings[index]

    @cached_property
    def _surroundings(self) -> list[Sequence[int]]:
        slices = {image: i for i, (image, number) in enumerate(self._images) if number is None}
        series = find_series(slices)
        unlisted = dict.fromkeys(
            location for found in series.values() for location in found if location not in slices
        )
        self._unlisted = list(unlisted)
        numbers = slices | {one: len(self) + i for i, one in enumerate(unlisted)}
        # Slices of one series share one list.
        ordered = {id(found): [numbers[one] for one in found] for found in series.values()}
        return [
            self._volumes[index] if number is not None else ordered[id(series[image])]
            for index, (image, number) in enumerate(self._images)
        ]

    @cached_property
    def _volumes(self) -> list[range]:
        """The volume of each image."""

        def volume_of(image: tuple[int, tuple[Location, int | None]]) -> int | Path:
            index, (location, number) = image
            return location.path.parent if number is None else index - number

        volumes: list[range] = []
        for _, group in groupby(enumerate(self._images), key=volume_of):
            count = len(list(group))
            volumes += [range(len(volumes), len(volumes) + count)] * count
        return volumes

    def space(self, index: int) -> tuple[int, ...]:
        """The size of image ``index`` in pixels, per spatial axis; see `shape`.

        Raises:
            InputError: the file cannot be read.
        """
        if self._cache is not None:
            return tuple(self.read(index).shape[1:])
        return self.shape(index)[1:]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape [C, *space] of image ``index`` in its file, from the file's header if possible.

        Raises:
            InputError: the file cannot be read.
        """
        return arrangement(self._images[index][0], self.ndim).image_shape

    def notes(self, index: int) -> tuple[str, ...]:
        """What the file of image ``index`` says about its pixels; see `readers.notes`.

        An opacity channel is noted where the network would take it as a channel.

        Raises:
            InputError: the file cannot be read.
        """
        location = self._images[index][0]
        found = notes(location, self.ndim)
        if self._drops_alpha:
            return found
        kinds = opacity(location, self.ndim)
        return (*found, *(OPACITY.format(channel=channel) for channel in kinds))

    def read_array(self, index: int, window: Window | None = None) -> Array:
        """Return image ``index``, or a window of it, unchanged from its file.

        An alpha channel is left out of images that are labels or whose channels are averaged.

        Returns:
            [C, *space] of the file's dtype.
        """
        location, number = self._image(index)
        return read_image(
            location,
            self.ndim,
            index=number,
            window=window,
            indexed=self.reads_indices,
            drop_alpha=self._drops_alpha,
        )

    @property
    def _drops_alpha(self) -> bool:
        return self.label_map is not None or self.collapse_channels

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Return image ``index``, or a window of it, as ``stack[index]`` does.

        Raises:
            InputError: the file cannot be read, or contains a value that is not a label.
        """
        if self._cache is None:
            return self._read(index, window)
        if index not in self._cache:
            self._cache[index] = self._read(index, None)
        image = self._cache[index]
        return image if window is None else image[(slice(None), *window)]

    def _read(self, index: int, window: Window | None) -> Tensor:
        image = self.read_array(index, window)
        if self.label_map is not None:
            return torch.from_numpy(self.label_map.to_indices(image, self.name(index)))
        values = to_float(image, self.collapse_channels)
        return values if self.factor == 1 else values * self.factor

    def keep_in_memory(self) -> None:
        """Read all images now and keep them in memory."""
        self._cache = {}
        for index in range(len(self)):
            self.read(index)

    @property
    def num_labels(self) -> int:
        """Number of labels.

        Raises:
            RuntimeError: the stack has no labels.
        """
        if self.label_map is None:
            raise RuntimeError("this image stack has no labels; create it with labels=...")
        return len(self.label_map.values)


def _list_images(locations: Sequence[Location], ndim: int) -> list[tuple[Location, int | None]]:
    """The file of each image and its number in it, None if the file contains one image."""
    images: list[tuple[Location, int | None]] = []
    for _, group in groupby(locations, key=lambda location: suffix_of(location.path)):
        files = list(group)
        if _holds_one(files, ndim):
            images += [(file, None) for file in files]
        else:
            images += [(file, i) for file in files for i in range(count_images(file, ndim))]
    return images


def _holds_one(files: Sequence[Location], ndim: int) -> bool:
    """Whether the first of some files of one kind contains one image."""
    try:
        return is_raster_image(files[0]) or count_images(files[0], ndim) == 1
    except InputError:
        if len(files) == 1:
            raise
        return True  # a bad file among many is reported when it is read


def to_float(image: np.ndarray[Any, np.dtype[Any]], collapse_channels: bool = False) -> Tensor:
    """Return an image [C, *space] of any real type as a float32 tensor."""
    if collapse_channels and image.shape[0] > 1:
        image = image.mean(axis=0, keepdims=True, dtype=np.float64)
    with np.errstate(over="ignore"):  # values outside the range of float32 become infinite
        return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))

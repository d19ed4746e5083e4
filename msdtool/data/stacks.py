"""A stack of images on disk, read one at a time."""

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.data.labels import LabelMap
from msdtool.data.patches import Window
from msdtool.data.readers import Array, read_image
from msdtool.data.specifiers import Specifier, expand


class ImageStack:
    """The images that a path specifier names, in natural order: scan1.tif before scan10.tif.

    Images are read when they are asked for, as torch tensors: ``ImageStack("*.tif")[0]``.

    Args:
        path_specifier: a path with optional glob pattern, a folder, a file, or a list of these.
        collapse_channels: average the channels of each image.
        labels: k if the pixels are labels in {0, ..., k-1}, or the list of label values. Images
            are then int64 class indices instead of float32 values.
        ignore: label value of pixels that do not count; they get the index -100.
        ndim: number of spatial axes of an image, 2 or 3.

    Raises:
        InputError: the specifier names no file.
    """

    def __init__(
        self,
        path_specifier: Specifier,
        *,
        collapse_channels: bool = False,
        labels: int | Sequence[int] | None = None,
        ignore: int | None = None,
        ndim: int = 2,
    ) -> None:
        self.paths: list[Path] = expand(path_specifier)
        self.collapse_channels = collapse_channels
        self.label_map = None if labels is None else LabelMap(labels, ignore)
        self.ndim = ndim
        self._cache: dict[int, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return image ``index``, [C, H, W] or [C, D, H, W], float32 or int64 for labels.

        Raises:
            InputError: the file cannot be read, or holds a value that is not a label.
        """
        return self.read(range(len(self))[index])

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Return image ``index`` or a window of it.

        Raises:
            InputError: the file cannot be read, or holds a value that is not a label.
        """
        if self._cache is not None:
            if index not in self._cache:
                self._cache[index] = self._read(index)
            image = self._cache[index]
        else:
            image = self._read(index)
        return image if window is None else image[(slice(None), *window)]

    def space(self, index: int) -> tuple[int, ...]:
        """The size of image ``index``, [*space]."""
        return tuple(self.read(index).shape[1:])

    def name(self, index: int) -> str:
        """Where image ``index`` is, for people."""
        return str(self.paths[index])

    def volume(self, index: int) -> range:
        """The slices of the volume that image ``index`` belongs to: those of its folder."""
        return self._volumes[index]

    @cached_property
    def _volumes(self) -> list[range]:
        """Of each image, its volume."""
        volumes: list[range] = []
        for _, group in groupby(self.paths, key=lambda path: path.parent):
            count = len(list(group))
            volumes += [range(len(volumes), len(volumes) + count)] * count
        return volumes

    def read_array(self, index: int) -> Array:
        """Return image ``index`` as it is in its file, [C, *space] of the file's dtype.

        What is averaged or taken for labels comes without its alpha channel.
        """
        is_label = self.label_map is not None
        return read_image(
            self.paths[index],
            self.ndim,
            indexed=is_label,
            drop_alpha=is_label or self.collapse_channels,
        )

    def _read(self, index: int) -> Tensor:
        image = self.read_array(index)
        if self.label_map is not None:
            return torch.from_numpy(self.label_map.to_indices(image, str(self.paths[index])))
        return to_float(image, self.collapse_channels)

    def keep_in_memory(self) -> None:
        """Read all images now and keep them."""
        self._cache = {}
        for index in range(len(self)):
            self[index]

    @property
    def num_labels(self) -> int:
        """The number of labels.

        Raises:
            RuntimeError: the stack is not labelled.
        """
        if self.label_map is None:
            raise RuntimeError("this image stack has no labels; create it with labels=...")
        return len(self.label_map.values)


def to_float(image: np.ndarray[Any, np.dtype[Any]], collapse_channels: bool = False) -> Tensor:
    """Return an image [C, *space] of any real type as a float32 tensor."""
    if collapse_channels and image.shape[0] > 1:
        image = image.mean(axis=0, keepdims=True, dtype=np.float64)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))

"""Arrays that lie in a file as in memory: .npy, raw, and the pixels of many TIFFs."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.containers.base import UNNAMED, Array, Key, key_shape
from msdtool.errors import InputError

# What is mapped counts as memory of the process while it is mapped, so that is done in parts.
MAPPED_BYTES = 64 * 2**20


class FlatArray:
    """Pixels in row-major order from an offset in a file.

    Args:
        path: the file.
        offset: of the first pixel, in bytes.
        shape, dtype, axes: see `Container`.

    Raises:
        ValueError: the file is too short.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        axes: str | None = None,
    ) -> None:
        self.path, self.offset = path, offset
        self.shape, self.dtype = shape, dtype
        self.axes = axes or UNNAMED * len(shape)
        needed = offset + math.prod(shape) * dtype.itemsize
        if path.stat().st_size < needed:
            raise ValueError(
                f"the file is truncated, it has {path.stat().st_size} bytes and its pixels need "
                f"{needed}"
            )

    def read(self, key: Key) -> Array:
        """Read a part; the file is open and mapped no longer than that takes."""
        if not self.shape:
            return self._map(0, ()).astype(self.dtype.newbyteorder("="))
        # Leading axes of one index, then a range of the first axis that has one, a part at a time.
        depth = next((i for i, part in enumerate(key) if isinstance(part, slice)), len(key))
        inner = self.shape[depth + 1 :]
        start = 0
        for axis in range(depth):
            index = key[axis]
            assert isinstance(index, int)
            start = start * self.shape[axis] + index
        if depth == len(key):
            return self._map(start, ()).astype(self.dtype.newbyteorder("="))
        rows = range(self.shape[depth])[key[depth]]
        start = start * self.shape[depth] + rows.start
        out = np.empty(key_shape(key, self.shape), self.dtype.newbyteorder("="))
        row_bytes = max(1, math.prod(inner) * self.dtype.itemsize)
        step = max(1, MAPPED_BYTES // row_bytes)
        for first in range(0, len(rows), step):
            count = min(step, len(rows) - first)
            mapped = self._map((start + first) * math.prod(inner), (count, *inner))
            out[first : first + count] = mapped[(slice(None), *key[depth + 1 :])]
        return out

    def _map(self, first: int, shape: tuple[int, ...]) -> Array:
        """Map pixels from the one of number ``first`` on."""
        offset = self.offset + first * self.dtype.itemsize
        return np.memmap(self.path, self.dtype, "r", offset, shape or (1,)).reshape(shape)

    def close(self) -> None:
        """Do nothing: no file is open."""


class ReversedArray:
    """An array whose file holds its transpose, as Fortran writes it."""

    def __init__(self, inner: FlatArray) -> None:
        self.inner = inner
        self.shape, self.dtype, self.axes = inner.shape[::-1], inner.dtype, inner.axes[::-1]

    def read(self, key: Key) -> Array:
        """Read a part."""
        return self.inner.read(key[::-1]).transpose()

    def close(self) -> None:
        """Do nothing: no file is open."""


def open_npy(path: Path) -> FlatArray | ReversedArray:
    """Open a file of `numpy.save`.

    Raises:
        ValueError: it is none, or holds Python objects.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            1: np.lib.format.read_array_header_1_0,
            2: np.lib.format.read_array_header_2_0,
        }[min(version[0], 2)]
        shape, is_fortran, dtype = read_header(file)
        offset = file.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    if is_fortran:
        return ReversedArray(FlatArray(path, offset, shape[::-1], dtype))
    return FlatArray(path, offset, shape, dtype)


def open_raw(path: Path, shape: tuple[int, ...], dtype: str) -> FlatArray:
    """Open a file of nothing but pixels.

    Raises:
        InputError: the file's size is another one.
    """
    array = np.dtype(dtype)
    needed = math.prod(shape) * array.itemsize
    found = path.stat().st_size
    if found != needed:
        raise InputError(
            f"{path}: has {found} bytes; shape {list(shape)} of dtype {dtype} needs {needed}; "
            "check shape and dtype, and that the file has no header"
        )
    return FlatArray(path, 0, shape, array)

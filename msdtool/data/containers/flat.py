"""Arrays stored in a file as in memory: .npy, raw, and the pixels of many TIFFs."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.containers.base import Array, Container, Key, key_shape
from msdtool.data.letters import UNNAMED
from msdtool.errors import InputError

# Mapped pages count as memory of the process, so files are mapped in parts.
MAPPED_BYTES = 16 * 2**20


class FlatArray(Container):
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
                f"the file is truncated: it has {path.stat().st_size} bytes, its pixels need "
                f"{needed}"
            )

    def read(self, key: Key) -> Array:
        """Read a part; the file is open and mapped only while it is read."""
        # After leading indices, the pixels within the first range are contiguous.
        row, rows, depth = 0, range(1), len(key)
        for axis, (part, size) in enumerate(zip(key, self.shape, strict=True)):
            if isinstance(part, slice):
                rows, depth = range(size)[part], axis
                row = row * size + rows.start
                break
            row = row * size + part
        inner, inner_key = self.shape[depth + 1 :], key[depth + 1 :]
        out = np.empty((len(rows), *key_shape(inner_key, inner)), self.dtype.newbyteorder("="))
        step = max(1, MAPPED_BYTES // (math.prod(inner) * self.dtype.itemsize))
        for first in range(0, len(rows), step):
            chunk = out[first : first + step]
            pixels = self._map(row + first, (len(chunk), *inner))
            chunk[...] = pixels[(slice(None), *inner_key)]
        return out if depth < len(key) else out[0]

    def _map(self, row: int, shape: tuple[int, ...]) -> Array:
        """Map rows of the array, starting with ``row``."""
        offset = self.offset + row * math.prod(shape[1:]) * self.dtype.itemsize
        return np.memmap(self.path, self.dtype, "r", offset, shape)

    def close(self) -> None:
        """Do nothing: no file is open."""


class ReversedArray(Container):
    """An array whose file contains its transpose, as in Fortran order."""

    def __init__(self, inner: FlatArray) -> None:
        self.inner = inner
        self.shape, self.dtype, self.axes = inner.shape[::-1], inner.dtype, inner.axes[::-1]

    def read(self, key: Key) -> Array:
        """Read a part."""
        return self.inner.read(key[::-1]).transpose()

    def close(self) -> None:
        """Do nothing: no file is open."""


def open_npy(path: Path) -> FlatArray | ReversedArray:
    """Open a file written by `numpy.save`.

    Raises:
        ValueError: it is not such a file, or contains Python objects.
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
        raise ValueError("it contains Python objects, not numbers")
    if is_fortran:
        return ReversedArray(FlatArray(path, offset, shape[::-1], dtype))
    return FlatArray(path, offset, shape, dtype)


def open_raw(path: Path, shape: tuple[int, ...], dtype: str) -> FlatArray:
    """Open a file that contains nothing but pixels.

    Raises:
        InputError: the file has the wrong size.
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

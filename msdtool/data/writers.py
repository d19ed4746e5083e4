"""Arrays to image files, each written whole or not at all."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from msdtool.atomic import atomic_path
from msdtool.errors import Error

Array = np.ndarray[Any, np.dtype[Any]]


def write_tiff(path: Path, image: Array) -> None:
    """Write an image [C, *space] as TIFF; a single channel is written as [*space].

    Raises:
        Error: the file cannot be written; nothing of it is left.
    """
    shape, axes = _layout(image.shape)
    with _writing(path) as temporary:
        tifffile.imwrite(
            temporary, image.reshape(shape), photometric="minisblack", metadata={"axes": axes}
        )


@contextmanager
def tiff_in_pieces(
    path: Path, shape: Sequence[int], dtype: np.dtype[Any], axis: int
) -> Iterator[Callable[[Array, int], None]]:
    """Write an image that is larger than memory, piece by piece.

    Args:
        path: appears when the block is left without an error.
        shape: [C, *space] of the whole image.
        dtype: its type.
        axis: which of the axes in ``shape`` is cut into pieces.

    Returns:
        ``write(piece, start)``, which writes a range of that axis, in any order.

    Raises:
        Error: the file cannot be written; nothing of it is left.
    """
    written_shape, axes = _layout(shape)
    inner = math.prod(shape[axis + 1 :]) * dtype.itemsize
    with _writing(path) as temporary:
        found = tifffile.imwrite(
            temporary, shape=written_shape, dtype=dtype, photometric="minisblack",
            metadata={"axes": axes}, returnoffset=True,
        )  # fmt: skip
        assert found is not None  # there is one, as the file is not compressed
        offset, _ = found
        with temporary.open("r+b") as file:

            def write(piece: Array, start: int) -> None:
                rows = np.ascontiguousarray(piece, dtype).reshape(math.prod(shape[:axis]), -1)
                for number, row in enumerate(rows):
                    file.seek(offset + (number * shape[axis] + start) * inner)
                    file.write(row.data)

            yield write


def _layout(shape: Sequence[int]) -> tuple[tuple[int, ...], str]:
    """The shape in which an image [C, *space] is written, a single channel left out; its axes."""
    axes = "CZYX" if len(shape) == 4 else "CYX"
    return (tuple(shape[1:]), axes[1:]) if shape[0] == 1 else (tuple(shape), axes)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes ``path``; say what the system said if it does not."""
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        # numpy counts bytes where the system would give a reason.
        reason = error.strerror or f"{error}; is the disk full?"
        raise Error(f"{path}: cannot be written: {reason}") from None


def label_dtype(values: list[int]) -> np.dtype[Any]:
    """The smallest integer type that holds all label values, unsigned if it can be."""
    for dtype in (np.uint8, np.uint16, np.int16, np.int32):
        if np.iinfo(dtype).min <= min(values) and max(values) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int64)

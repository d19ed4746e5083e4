"""Arrays to image files, each written atomically."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from msdtool.atomic import atomic_path
from msdtool.file_errors import cannot_write

Array = np.ndarray[Any, np.dtype[Any]]


def write_tiff(path: Path, image: Array) -> None:
    """Write an image [C, *space] as TIFF; a single channel is written as [*space].

    Raises:
        Error: the file cannot be written; no part of it is left behind.
    """
    shape, axes = _layout(image.shape)
    with cannot_write(path), atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary, image.reshape(shape), photometric="minisblack", metadata={"axes": axes}
        )


def _layout(shape: Sequence[int]) -> tuple[tuple[int, ...], str]:
    """Return the shape in which an image [C, *space] is written, and a letter per axis of it.

    A single channel is written without its axis.
    """
    axes = "CZYX" if len(shape) == 4 else "CYX"
    return (tuple(shape[1:]), axes[1:]) if shape[0] == 1 else (tuple(shape), axes)


def label_dtype(values: list[int]) -> np.dtype[Any]:
    """Return the smallest integer dtype that holds all label values, unsigned if possible."""
    for dtype in (np.uint8, np.uint16, np.int16, np.int32):
        if np.iinfo(dtype).min <= min(values) and max(values) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int64)

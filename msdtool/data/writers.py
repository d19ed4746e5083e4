"""Arrays to image files, each written whole or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from msdtool.atomic import atomic_path
from msdtool.errors import Error


def write_tiff(path: Path, image: np.ndarray[Any, np.dtype[Any]]) -> None:
    """Write an image [C, *space] as TIFF; a single channel is written as [*space].

    Raises:
        Error: the file cannot be written; nothing of it is left.
    """
    axes = "CZYX"[-image.ndim :] if image.ndim == 4 else "CYX"
    if image.shape[0] == 1:
        image, axes = image[0], axes[1:]
    try:
        with atomic_path(path) as temporary:
            tifffile.imwrite(temporary, image, photometric="minisblack", metadata={"axes": axes})
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

"""PNG, JPEG, BMP and whatever else imageio reads: small enough to decode whole."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import imageio.v3 as iio
from PIL import Image

from msdtool.data.containers.base import Array, Key
from msdtool.errors import InputError

T = TypeVar("T")

# Pillow refuses large images as a defence against malicious uploads; scans are large.
Image.MAX_IMAGE_PIXELS = None


class Picture:
    """A decoded image, [H, W] or [H, W, colours].

    Args:
        path: the file.
        indexed: of an image with a palette, take the indices, which are label values, instead of
            the colours.
    """

    def __init__(self, path: Path, indexed: bool) -> None:
        self.array = _read_indexed(path) if indexed else _read(path)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.axes = "YXS"[: self.array.ndim]

    def read(self, key: Key) -> Array:
        """Give a part."""
        return self.array[key]

    def close(self) -> None:
        """Do nothing: no file is open."""


def _read(path: Path) -> Array:
    _refuse_deep_colours(path)
    array = _decode(path, iio.imread)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]  # an animation of a single frame
    if array.ndim not in (2, 3):
        raise InputError(f"{path}: is an animation, shape {array.shape}; save it as TIFF")
    return array


def _refuse_deep_colours(path: Path) -> None:
    """Pillow reads a PNG with 16 bits per colour as one with 8, without a word."""
    with path.open("rb") as file:
        header = file.read(26)
    is_png, bits, has_colours = header[:8] == b"\x89PNG\r\n\x1a\n", header[24:25], header[25:26]
    if is_png and bits == b"\x10" and has_colours in (b"\x02", b"\x04", b"\x06"):
        raise InputError(
            f"{path}: a PNG with 16 bits per colour cannot be read without losing half of them; "
            "save it as TIFF"
        )


def _read_indexed(path: Path) -> Array:
    if _decode(path, iio.immeta).get("mode") == "P":
        return _decode(path, partial(iio.imread, mode="P"))
    return _read(path)


def _decode(path: Path, read: Callable[..., T]) -> T:
    """Call a function of imageio on a file's content: given a path, it may leave files open."""
    # The suffix only says which format to try first.
    with warnings.catch_warnings():
        # Trying the formats, imageio meets some of its own that it plans to drop.
        warnings.filterwarnings("ignore", "The legacy `.*` plugin", DeprecationWarning)
        return read(path.read_bytes(), extension=path.suffix or ".png")

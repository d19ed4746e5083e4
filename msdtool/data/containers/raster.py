"""Raster images: PNG, JPEG, BMP and whatever else imageio reads, decoded as a whole."""

import warnings
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import imageio.v3 as iio
import numpy as np
from imageio.plugins.pillow import PillowPlugin
from PIL import Image, PngImagePlugin

from msdtool.data.containers.base import Array, Container, Key
from msdtool.data.containers.raster_depth import stored_depth
from msdtool.errors import InputError

T = TypeVar("T")

# Pillow refuses large images as a defence against malicious uploads; scans are large, and so are
# the logs that microscopes write beside their pixels.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**28


class RasterImage(Container):
    """A decoded image, [H, W] or [H, W, colours].

    Args:
        path: the file.
        indexed: for an image with a palette, return the indices, which are label values, instead of
            the colours.
    """

    def __init__(self, path: Path, indexed: bool) -> None:
        self.array = _read_indexed(path) if indexed else _read(path)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.axes = "YXS"[: self.array.ndim]
        self.has_alpha = self.array.shape[2:] in ((2,), (4,)) and _mode(path) != "CMYK"

    def read(self, key: Key) -> Array:
        """Return a part."""
        return self.array[key]

    def close(self) -> None:
        """Do nothing: no file is open."""


def _read(path: Path) -> Array:
    content = path.read_bytes()
    depth = stored_depth(content)
    if depth is not None and depth.is_lossy:
        raise InputError(
            f"{path}: a {depth.kind} file with {depth.largest.bit_length()} bits per "
            f"{'colour' if depth.is_colour else 'pixel'} cannot be read without losing some of "
            "them; save it as TIFF"
        )
    array = _decode(path, content, _as_shown)
    if array.ndim not in (2, 3):
        raise InputError(f"{path}: is an animation, shape {array.shape}; save it as TIFF")
    if depth is not None and depth.largest != depth.decoded and array.dtype != bool:
        stored = np.uint8 if depth.largest <= np.iinfo(np.uint8).max else np.uint16
        array = np.rint(array * (depth.largest / depth.decoded)).astype(stored)
    return array


def _as_shown(content: bytes, extension: str, **options: Any) -> Array:
    """Decode an image, turned as its EXIF orientation says: so viewers and annotators show it."""
    with iio.imopen(content, "r", extension=extension) as file:
        if not isinstance(file, PillowPlugin):
            return file.read(**options)
        _check_is_one_image(content)
        image: Array = file.read(**options, rotate=True)
        return image[0] if file.properties().is_batch else image


def _check_is_one_image(content: bytes) -> None:
    """Raise ValueError if Pillow finds several images, of which only the first might be read."""
    with Image.open(BytesIO(content)) as image:
        count = getattr(image, "n_frames", 1)
        # Those of a photo are its preview or depth, those of Photoshop its layers.
        if count > 1 and image.format not in ("MPO", "PSD"):
            raise ValueError(f"it is an animation of {count} images; save it as TIFF")


def _read_indexed(path: Path) -> Array:
    if _mode(path) == "P":
        return _decode(path, path.read_bytes(), partial(_as_shown, mode="P"))
    return _read(path)


def _mode(path: Path) -> str | None:
    """What the pixels are, in Pillow's words; None where another library reads the file."""
    return _decode(path, path.read_bytes(), iio.immeta).get("mode")


def _decode(path: Path, content: bytes, read: Callable[..., T]) -> T:
    """Call a function of imageio on a file's content: given a path, it might leave files open."""
    # The suffix only selects the format that is tried first.
    with warnings.catch_warnings():
        # While trying formats, imageio warns about plugins that it is going to drop.
        warnings.filterwarnings("ignore", "The legacy `.*` plugin", DeprecationWarning)
        return read(content, extension=path.suffix or ".png")

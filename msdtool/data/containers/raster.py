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
from msdtool.data.containers.netpbm import read_netpbm
from msdtool.data.containers.raster_depth import Depth, stored_depth
from msdtool.data.extras import load_extra
from msdtool.errors import InputError

T = TypeVar("T")
_COMMON = {"PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "AVIF", "ICO"}
_RARE = {
    "SGI",
    "TGA",
    "PCX",
    "PSD",
    "IM",
    "SPIDER",
    "XBM",
    "XPM",
    "MSP",
    "QOI",
    "SUN",
    "PPM",
    "PFM",
}
KNOWN_TO_BE_RIGHT = _COMMON | _RARE
"""The formats of Pillow's that it reads as they are stored, or whose depth `stored_depth` tells; of
others it ignores signs, scales, planes or bits, as those of FITS."""
EXACT = {"JPEG 2000": "jpeg2k_decode", "AVIF": "avif_decode"}
"""The functions of imagecodecs that return values of any depth."""
MAX_EXACT_BITS = 25
OLD_BMP_HEADER = 12
ORIENTATION = 0x112
FITS = b"SIMPLE  ="

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
        with path.open("rb") as file:
            if file.read(len(FITS)) == FITS:  # which other packages for images may read, too
                raise InputError(f"{path}: msdtool does not read FITS; convert it to TIFF")
        self.array = _read_indexed(path) if indexed else _read(path)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.axes = "YXS"[: self.array.ndim]
        if self.array.shape[2:] in ((2,), (4,)) and _mode(path) != "CMYK":
            self.opacity = (self.array.shape[2] - 1,)

    def read(self, key: Key) -> Array:
        """Return a part."""
        return self.array[key]

    def close(self) -> None:
        """Do nothing: no file is open."""


def _read(path: Path) -> Array:
    content = path.read_bytes()
    netpbm = read_netpbm(content)
    if netpbm is not None:
        return netpbm
    depth = stored_depth(content)
    if depth is not None and depth.is_lossy:
        array = _read_deep(path, content, depth)
    else:
        array = _decode(path, content, _as_shown)
    if array.ndim not in (2, 3):
        raise InputError(f"{path}: is an animation, shape {array.shape}; save it as TIFF")
    if depth is None or depth.is_lossy or depth.largest == depth.decoded or array.dtype == bool:
        return array
    stored = np.uint8 if depth.largest <= np.iinfo(np.uint8).max else np.uint16
    return np.rint(array * (depth.largest / depth.decoded)).astype(stored)


def _read_deep(path: Path, content: bytes, depth: Depth) -> Array:
    """Read values that Pillow would cut or take for others.

    Raises:
        InputError: so would the package imagecodecs, or it is not installed.
    """
    decoder = EXACT.get(depth.kind)
    if decoder is None or depth.bits > MAX_EXACT_BITS:
        raise InputError(
            f"{path}: a {depth.kind} file with {depth.bits} bits per "
            f"{'colour' if depth.is_colour else 'pixel'} cannot be read without losing some of "
            "them; save it as TIFF"
        )
    if depth.kind == "AVIF":
        _check_avif(content)
    array: Array = getattr(load_extra("imagecodecs", path), decoder)(content)
    return array


def _check_avif(content: bytes) -> None:
    """Raise ValueError for what imagecodecs ignores: further images, and how to turn this one."""
    _check(content)
    with Image.open(BytesIO(content)) as image:
        if image.getexif().get(ORIENTATION, 1) != 1:
            raise ValueError("it is an AVIF of more than 8 bits that is turned; save it as TIFF")


def _as_shown(content: bytes, extension: str, **options: Any) -> Array:
    """Decode an image, turned as its EXIF orientation says: so viewers and annotators show it."""
    with iio.imopen(content, "r", extension=extension) as file:
        if not isinstance(file, PillowPlugin):
            return file.read(**options)
        _check(content)
        image: Array = file.read(**options, rotate=True)
        return image[0] if file.properties().is_batch else image


def _check(content: bytes) -> None:
    """Raise ValueError unless Pillow reads all of an image, and reads it right."""
    with Image.open(BytesIO(content)) as image:
        kind = image.format or "unknown"
        if kind not in KNOWN_TO_BE_RIGHT:
            raise ValueError(f"msdtool does not read the format {kind}; convert it to TIFF")
        count = getattr(image, "n_frames", 1)
        # Those of a photo are its preview or depth, those of Photoshop its layers.
        if count > 1 and kind not in ("MPO", "PSD"):
            raise ValueError(f"it is an animation of {count} images; save it as TIFF")
        if kind == "BMP" and image.mode in ("1", "L"):
            size = int.from_bytes(content[14:18], "little")
            bits = content[24 if size == OLD_BMP_HEADER else 28]
            if bits != {"1": 1, "L": 8}[image.mode]:
                # Pillow takes indices of a grey palette for grey values of other sizes.
                raise ValueError(f"it is a BMP of {bits} bits with a grey palette; save it as PNG")


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

"""Image files to arrays: channels first, the file's own dtype."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import imageio.v3 as iio
import numpy as np
import tifffile
from PIL import Image

from msdtool.errors import InputError

TIFF_SUFFIXES = {".tif", ".tiff", ".btf", ".tf8"}
# What tifffile says, in its log only, when it gives fewer pages than a file should hold.
SIGNS_OF_DAMAGE = ("invalid page offset", "failed to reshape", "corrupted file")
T = TypeVar("T")

# Pillow refuses large images as a defence against malicious uploads; scans are large.
Image.MAX_IMAGE_PIXELS = None


Array = np.ndarray[Any, np.dtype[Any]]


def read_image(
    path: Path, ndim: int = 2, *, indexed: bool = False, drop_alpha: bool = False
) -> Array:
    """Read an image or volume.

    A TIFF's leading axis and the colours of any image become channels. With ``ndim`` 3 a
    three-dimensional TIFF is a volume of one channel, its pages the slices.

    Args:
        path: a TIFF, or any other file that imageio reads.
        ndim: number of spatial axes, 2 or 3.
        indexed: of an image with a palette, take the indices, which are label values, instead of
            the colours.
        drop_alpha: leave out how opaque the pixels are, where a format has that.

    Returns:
        [C, H, W] or [C, D, H, W], boolean, integer or floating point.

    Raises:
        InputError: the file cannot be read as such an image.
    """
    read = _read_tiff if _is_tiff(path) else _read_indexed if indexed else _read_other
    array, axes = _guarded(path, read)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: pixels of type {array.dtype} are not real numbers")
    image = _channels_first(array, axes, ndim, path)
    has_alpha = not _is_tiff(path) and image.shape[0] in (2, 4)
    return image[:-1] if drop_alpha and has_alpha else image


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in TIFF_SUFFIXES


def _guarded(path: Path, read: Callable[[Path], T]) -> T:
    """Run a decoder; whatever it raises means that the file is not a good image."""
    try:
        return read(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read the file") from None
    except MemoryError:
        raise InputError(f"{path}: the image does not fit in memory") from None
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if "imagecodecs" in reason:
            reason = "its compression needs: pip install 'msdtool[codecs]'"
        if reason.startswith("Could not find a backend"):
            reason = "its content is of no known image format"
        if path.stat().st_size == 0:
            reason = "the file is empty"
        raise InputError(f"{path}: cannot be read as an image: {reason}") from None


def _read_tiff(path: Path) -> tuple[Array, str]:
    with _tifffile_log() as log, tifffile.TiffFile(path) as file:
        if not file.series:
            raise ValueError("it is damaged or cut short, there is no image in it")
        kinds = {(series.shape, series.axes, series.dtype) for series in file.series}
        if len(kinds) != 1:
            shapes = ", ".join(str(series.shape) for series in file.series)
            raise InputError(f"{path}: holds images of different shapes or types: {shapes}")
        array, axes = file.series[0].asarray(), file.series[0].axes
        if len(file.series) > 1:
            # Pages that were appended one by one.
            array, axes = np.stack([series.asarray() for series in file.series]), f"I{axes}"
        if any(sign in message for message in log for sign in SIGNS_OF_DAMAGE):
            raise InputError(f"{path}: is damaged or cut short, some of its pages are missing")
        return array, axes


@contextmanager
def _tifffile_log() -> Iterator[list[str]]:
    """Collect what tifffile logs, most of it about odd metadata, instead of printing it."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _read_other(path: Path) -> tuple[Array, str]:
    _refuse_deep_colours(path)
    array = _decode(path, iio.imread)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]  # an animation of a single frame
    return array, "YXS"[: array.ndim]


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


def _read_indexed(path: Path) -> tuple[Array, str]:
    if _decode(path, iio.immeta).get("mode") == "P":
        return _decode(path, partial(iio.imread, mode="P")), "YX"
    return _read_other(path)


def _decode(path: Path, read: Callable[..., T]) -> T:
    """Call a function of imageio on a file's content: given a path, it may leave files open."""
    # The suffix only says which format to try first.
    with warnings.catch_warnings():
        # Trying the formats, imageio meets some of its own that it plans to drop.
        warnings.filterwarnings("ignore", "The legacy `.*` plugin", DeprecationWarning)
        return read(path.read_bytes(), extension=path.suffix or ".png")


def _channels_first(array: Array, axes: str, ndim: int, path: Path) -> Array:
    """Bring an array to [C, *space]; ``axes`` names colour samples (S) and channels (C)."""
    if array.size == 0:
        raise InputError(f"{path}: the image has no pixels, its shape is {array.shape}")
    found = f"the image has {array.ndim} dimensions, shape {array.shape}"
    if len(axes) == array.ndim and "S" in axes:
        found = f"the image has colours and {array.ndim - 1} further dimensions"
        array = np.moveaxis(array, axes.index("S"), 0)
    elif len(axes) == array.ndim == ndim + 1 and "C" in axes:
        array = np.moveaxis(array, axes.index("C"), 0)
    elif array.ndim == ndim:
        array = array[np.newaxis]
    elif array.ndim == 1 and ndim == 2:
        array = array[np.newaxis, np.newaxis]
    if array.ndim != ndim + 1:
        expected = "1 to 3 dimensions" if ndim == 2 else "3 dimensions, or 4 with channels"
        hint = "volumes set network.ndim: 3" if ndim == 2 else "images set network.ndim: 2"
        raise InputError(f"{path}: {found}; expected {expected}; for {hint}")
    return array

"""Image files to arrays: channels first, the file's own dtype."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import imageio.v3 as iio
import numpy as np
import tifffile
from PIL import Image

from msdtool.errors import InputError

TIFF_SUFFIXES = {".tif", ".tiff", ".btf", ".tf8"}
T = TypeVar("T")

# Pillow refuses large images as a defence against malicious uploads; scans are large.
Image.MAX_IMAGE_PIXELS = None


Array = np.ndarray[Any, np.dtype[Any]]


def read_image(path: Path, ndim: int = 2, *, indexed: bool = False) -> Array:
    """Read an image or volume.

    A TIFF's leading axis and the colours of any image become channels. With ``ndim`` 3 a
    three-dimensional TIFF is a volume of one channel, its pages the slices.

    Args:
        path: a TIFF, or any other file that imageio reads.
        ndim: number of spatial axes, 2 or 3.
        indexed: of an image with a palette, take the indices, which are label values, instead of
            the colours.

    Returns:
        [C, H, W] or [C, D, H, W], boolean, integer or floating point.

    Raises:
        InputError: the file cannot be read as such an image.
    """
    read = _read_tiff if _is_tiff(path) else _read_indexed if indexed else _read_other
    array, axes = _guarded(path, read)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: pixels of type {array.dtype} are not real numbers")
    return _channels_first(array, axes, ndim, path)


def image_shape(path: Path, ndim: int = 2) -> tuple[int, ...]:
    """Return the shape that `read_image` gives, mostly without decoding the file.

    Raises:
        InputError: the file cannot be read as such an image.
    """
    shape, axes = _guarded(path, _tiff_shape if _is_tiff(path) else _other_shape)
    # A broadcast scalar has the shape and no memory, so one rule decides on the axes.
    return _channels_first(np.broadcast_to(np.uint8(0), shape), axes, ndim, path).shape


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
        if path.stat().st_size == 0:
            reason = "the file is empty"
        raise InputError(f"{path}: cannot be read as an image: {reason}") from None


def _read_tiff(path: Path) -> tuple[Array, str]:
    with tifffile.TiffFile(path) as file:
        series = _only_series(file, path)
        array = series.asarray()
        return array, series.axes


def _tiff_shape(path: Path) -> tuple[tuple[int, ...], str]:
    with tifffile.TiffFile(path) as file:
        series = _only_series(file, path)
        return series.shape, series.axes


def _only_series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    if len(file.series) != 1:
        shapes = ", ".join(str(series.shape) for series in file.series)
        raise InputError(f"{path}: holds images of different shapes or kinds: {shapes}")
    return file.series[0]


def _read_other(path: Path) -> tuple[Array, str]:
    array = iio.imread(path)
    return array, "YXS"[: array.ndim]


def _read_indexed(path: Path) -> tuple[Array, str]:
    has_palette = iio.immeta(path).get("mode") == "P"
    array = iio.imread(path, mode="P") if has_palette else iio.imread(path)
    return array, "YXS"[: array.ndim]


def _other_shape(path: Path) -> tuple[tuple[int, ...], str]:
    shape = iio.improps(path).shape
    return shape, "YXS"[: len(shape)]


def _channels_first(array: Array, axes: str, ndim: int, path: Path) -> Array:
    """Bring an array to [C, *space]; ``axes`` tells colour samples (S) from other axes."""
    if array.size == 0:
        raise InputError(f"{path}: the image has no pixels, its shape is {array.shape}")
    if "S" in axes and len(axes) == array.ndim:
        array = np.moveaxis(array, axes.index("S"), 0)
    elif array.ndim == ndim:
        array = array[np.newaxis]
    elif array.ndim == 1 and ndim == 2:
        array = array[np.newaxis, np.newaxis]
    if array.ndim != ndim + 1:
        expected = f"{ndim} dimensions, or {ndim + 1} with channels" if ndim == 3 else "1 to 3"
        hint = ""
        if ndim == 2 and array.ndim > 3:
            hint = "; for volumes set network.ndim: 3"
        if ndim == 3 and array.ndim < 3:
            hint = "; for images set network.ndim: 2"
        raise InputError(
            f"{path}: the image has {array.ndim} dimensions, shape {array.shape}; "
            f"expected {expected}{hint}"
        )
    return array

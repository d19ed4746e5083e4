"""Files to images: channels first, the file's dtype, only the part that is requested.

`msdtool.data.containers.registry` says what opens which file.
"""

import atexit
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from msdtool.data.axes import Arrangement, arrange
from msdtool.data.containers import Array, Container
from msdtool.data.containers.raster import RasterImage
from msdtool.data.containers.registry import format_at
from msdtool.data.extras import load_extra
from msdtool.data.metadata import Metadata
from msdtool.data.patches import Window
from msdtool.errors import InputError
from msdtool.file_errors import cannot_read
from msdtool.special_files import refuse_special
from msdtool.specifier_grammar import Location

log = logging.getLogger(__name__)

__all__ = [
    "Array",
    "arrangement",
    "count_arrays",
    "count_images",
    "image_name",
    "is_raster_image",
    "metadata",
    "notes",
    "opacity",
    "pixel_type",
    "read_image",
]

MAX_OPEN = 8
MAX_DECODED = 3
"""An input, its target and mask: their sizes are requested before their pixels."""
T = TypeVar("T")


def read_image(
    location: Location | Path,
    ndim: int = 2,
    *,
    index: int | None = None,
    window: Window | None = None,
    indexed: bool = False,
    drop_alpha: bool = False,
) -> Array:
    """Read an image or volume, or a window of it; `msdtool.data.axes` says which axis is which.

    Args:
        location: the file.
        ndim: number of spatial axes, 2 or 3.
        index: of the image in the file; None if it must be the only one.
        window: a range per spatial axis; None: the whole image. Only the pages or chunks that
            intersect it are read, except from raster images such as PNG, which are decoded whole.
        indexed: for a raster image with a palette, return the indices, which are label values,
            instead of the colours.
        drop_alpha: leave out the alpha channel, where the file says that it has one.

    Returns:
        [C, H, W] or [C, D, H, W], boolean, integer or floating point.

    Raises:
        InputError: the file cannot be read as such an image.
    """
    location = _as_location(location)

    def read(container: Container, found: Arrangement) -> Array:
        if index is None and found.num_images != 1:
            raise InputError(
                f"{location}: holds {found.num_images} images (axes {found.axes}, shape "
                f"{found.shape}), where one is expected; if they are its channels or a volume, "
                "set axes or network.ndim"
            )
        image = found.to_image(container.read(found.key(index or 0, window)))
        return np.delete(image, _opacity(container, found), 0) if drop_alpha else image

    return _use(location, ndim, read, indexed=indexed)


def count_images(location: Location | Path, ndim: int = 2) -> int:
    """Number of images in a file, from its header.

    Raises:
        InputError: the file cannot be read as images.
    """
    return arrangement(location, ndim).num_images


def arrangement(location: Location | Path, ndim: int = 2) -> Arrangement:
    """The arrangement of images in a file: number, shape and axes, from its header.

    Raises:
        InputError: the file cannot be read as images.
    """
    return _use(_as_location(location), ndim, lambda _container, found: found)


def pixel_type(location: Location | Path) -> np.dtype[Any]:
    """The dtype of a file's pixels.

    Raises:
        InputError: the file cannot be read as images.
    """
    return _use(_as_location(location), 2, lambda container, _: container.dtype)


def notes(location: Location | Path, ndim: int = 2) -> tuple[str, ...]:
    """What a file says about its pixels that reading them does not take into account.

    Raises:
        InputError: the file cannot be read as images.
    """
    return _use(_as_location(location), ndim, lambda container, _: container.notes)


def opacity(location: Location | Path, ndim: int = 2) -> tuple[int, ...]:
    """The channels of a file's images that are opacity, as it says.

    Raises:
        InputError: the file cannot be read as images.
    """
    return _use(_as_location(location), ndim, _opacity)


def _opacity(container: Container, found: Arrangement) -> tuple[int, ...]:
    """The channels that are opacity; none if samples were named something else than channels."""
    samples = container.axes.find("S")
    return container.opacity if samples >= 0 and found.axes[samples] in "CS" else ()


def metadata(location: Location | Path, ndim: int = 2) -> Metadata:
    """What a file says about its array besides the pixels.

    Raises:
        InputError: the file cannot be read as images.
    """
    location = _as_location(location)
    axes = arrangement(location, ndim).axes
    describe = format_at(location).describe
    with suppress(Exception):  # whatever strange content raises: the pixels do not need it
        if describe is not None:
            return describe(location, axes)
    return Metadata()


def file_states(location: Location) -> list[list[int]]:
    """Size and time of change, in nanoseconds, of all files that an array is read from.

    Raises:
        InputError: the file cannot be read.
    """

    def run() -> list[list[int]]:
        container = _opened(location, indexed=False)
        states = [path.stat() for path in (location.path, *container.files())]
        return [[state.st_size, state.st_mtime_ns] for state in states]

    with _lock:
        return _guarded(location, run)


def count_arrays(location: Location) -> int:
    """Number of arrays in a file that could be images.

    Raises:
        InputError: the file cannot be read.
    """
    count = format_at(location).count_arrays
    return 1 if count is None else _guarded(location, lambda: count(location.path))


def image_name(location: Location | Path, index: int | None) -> str:
    """The name of an image in messages: its file, and which of several images in it."""
    return str(location) if index is None else f"{location}[{index}]"


def is_raster_image(location: Location) -> bool:
    """Whether a file is a PNG, JPEG or the like, which contains one image."""
    return format_at(location).open is None


def _as_location(location: Location | Path) -> Location:
    return Location(location) if isinstance(location, Path) else location


def _use(
    location: Location,
    ndim: int,
    use: Callable[[Container, Arrangement], T],
    *,
    indexed: bool = False,
) -> T:
    """Open a file, unless it is open, and find out what is in it."""

    def run() -> T:
        container = _opened(location, indexed)
        if container.dtype.kind not in "biuf":
            raise InputError(f"{location}: pixels of type {container.dtype} are not real numbers")
        found = arrange(container.axes, container.shape, ndim, location.axes, str(location))
        return use(container, found)

    with _lock:
        return _guarded(location, run)


def _guarded(location: Location, read: Callable[[], T]) -> T:
    """Run a decoder; whatever it raises means that the file is not a valid image."""
    try:
        with cannot_read(location, InputError):
            return read()
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{location}: the image does not fit in memory") from None
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if "imagecodecs" in reason or isinstance(error, ImportError):
            load_extra("imagecodecs", location.path)  # which may be missing, or broken
        if reason.startswith("Could not find a backend"):
            reason = "its content is not in a known image format"
        if "required filter" in reason or "filter plugin" in reason:
            reason = "its compression is unknown to the package hdf5plugin"
        if location.path.is_file() and location.path.stat().st_size == 0:
            reason = "the file is empty"
        raise InputError(f"{location}: cannot be read as an image: {reason}") from None


_open: "OrderedDict[tuple[object, ...], Container]" = OrderedDict()
"""Files that this process has open, the most recently used last."""
_decoded: "OrderedDict[tuple[object, ...], Container]" = OrderedDict()
"""Raster images, which are decoded as a whole, the most recently used last."""


def _opened(location: Location, indexed: bool) -> Container:
    """Open a file, unless it is open and has not changed since."""
    state = location.path.stat()
    refuse_special(state)
    opener = format_at(location).open
    key = (location.path, location.inner, location.shape, location.dtype, indexed)
    version = (*key, state.st_mtime_ns, state.st_size, state.st_ino)
    files, limit = (_open, MAX_OPEN) if opener else (_decoded, MAX_DECODED)
    if version not in files:
        log.debug(f"{location}: is opened")
        for other in [other for other in files if other[: len(key)] == key]:
            files.pop(other).close()
        while len(files) >= limit:
            files.popitem(last=False)[1].close()
        files[version] = opener(location) if opener else RasterImage(location.path, indexed)
    files.move_to_end(version)
    return files[version]


_lock = threading.RLock()
"""Held while a file is used: it has one position, and may be closed to open another."""


def _close_open_files() -> None:
    """End with closed files: HDF5 crashes at the exit of a process that has virtual ones open."""
    for files in (_open, _decoded):
        while files:
            files.popitem()[1].close()


atexit.register(_close_open_files)


def _forget_open_files() -> None:
    """A worker opens its own files: processes that share an open file share its position."""
    global _lock  # noqa: PLW0603 - a thread of the parent may hold the old one forever
    _lock = threading.RLock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_open_files)

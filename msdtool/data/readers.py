"""Files to images: channels first, the file's own dtype, only the part that is asked for."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msdtool.data.axes import Arrangement, Region, arrange
from msdtool.data.containers import Array, Container, hdf5, tiff, zarr
from msdtool.data.containers.flat import open_npy, open_raw
from msdtool.data.containers.hdf5 import Hdf5Array
from msdtool.data.containers.pictures import Picture
from msdtool.data.containers.tiff import open_tiff
from msdtool.data.containers.zarr import ZarrArray
from msdtool.data.specifiers import INNER, Location
from msdtool.errors import InputError

__all__ = [
    "Array",
    "Region",
    "arrangement",
    "count_images",
    "image_name",
    "is_picture",
    "read_image",
]

RAW_SUFFIXES = {".raw", ".bin"}
NPY_SUFFIX, NPZ_SUFFIX = ".npy", ".npz"
MAX_OPEN = 8
MAX_DECODED = 3
"""An input, its target and mask: their sizes are asked for before their pixels."""
T = TypeVar("T")


def read_image(
    location: Location | Path,
    ndim: int = 2,
    *,
    index: int | None = None,
    region: Region | None = None,
    indexed: bool = False,
    drop_alpha: bool = False,
) -> Array:
    """Read an image or volume, or a part of it; see `msdtool.data.axes` for which axis is which.

    Args:
        location: the file.
        ndim: number of spatial axes, 2 or 3.
        index: which of the file's images; None if it must be the only one.
        region: a range per spatial axis; None takes all. Only the pages or chunks it touches are
            read, of a PNG and its kin the whole image.
        indexed: of a picture with a palette, take the indices, which are label values, instead of
            the colours.
        drop_alpha: leave out how opaque the pixels are, where a picture has that.

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
        image = found.to_image(container.read(found.key(index or 0, region)))
        has_alpha = is_picture(location) and image.shape[0] in (2, 4)
        return image[:-1] if drop_alpha and has_alpha else image

    return _use(location, ndim, read, indexed=indexed)


def count_images(location: Location | Path, ndim: int = 2) -> int:
    """How many images a file holds, from its header.

    Raises:
        InputError: the file cannot be read as images.
    """
    return arrangement(location, ndim).num_images


def arrangement(location: Location | Path, ndim: int = 2) -> Arrangement:
    """How images lie in a file: their number, shape and axes, from its header.

    Raises:
        InputError: the file cannot be read as images.
    """
    return _use(_as_location(location), ndim, lambda container, found: found)


def image_name(location: Location | Path, index: int | None) -> str:
    """What people call an image: its file, and which one of several in it."""
    return str(location) if index is None else f"{location}[{index}]"


def is_picture(location: Location) -> bool:
    """Whether a file is a PNG or its kin, which hold one image."""
    return _opener(location) is None


def _as_location(location: Location | Path) -> Location:
    return Location(location) if isinstance(location, Path) else location


def _use(
    location: Location,
    ndim: int,
    use: Callable[[Container, Arrangement], T],
    *,
    indexed: bool = False,
) -> T:
    """Open a file, or take it from those that are, and find out what is in it."""

    def run() -> T:
        container = _opened(location, indexed)
        if container.dtype.kind not in "biuf":
            raise InputError(f"{location}: pixels of type {container.dtype} are not real numbers")
        found = arrange(container.axes, container.shape, ndim, location.axes, str(location))
        return use(container, found)

    with _lock:
        return _guarded(location, run)


def _guarded(location: Location, read: Callable[[], T]) -> T:
    """Run a decoder; whatever it raises means that the file is not a good image."""
    try:
        return read()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{location}: no such file") from None
    except PermissionError:
        raise InputError(f"{location}: no permission to read the file") from None
    except MemoryError:
        raise InputError(f"{location}: the image does not fit in memory") from None
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if "imagecodecs" in reason:
            reason = "its compression needs: pip install 'msdtool[codecs]'"
        if reason.startswith("Could not find a backend"):
            reason = "its content is of no known image format"
        if "required filter" in reason or "filter plugin" in reason:
            reason = "its compression needs: pip install hdf5plugin"
        if location.path.is_file() and location.path.stat().st_size == 0:
            reason = "the file is empty"
        raise InputError(f"{location}: cannot be read as an image: {reason}") from None


Opener = Callable[[Location], Container]


def _opener(location: Location) -> Opener | None:
    """What opens a file, by its suffix, None for a picture: no file is read to find that out."""
    suffix = location.path.suffix.lower()
    if location.shape is not None:
        return _open_raw
    if suffix in hdf5.SUFFIXES:
        return lambda place: Hdf5Array(place.path, place.inner)
    if suffix == zarr.SUFFIX or location.inner or location.path.is_dir():
        return _open_zarr
    if suffix in tiff.SUFFIXES:
        return lambda place: open_tiff(place.path)
    if suffix == NPY_SUFFIX:
        return lambda place: open_npy(place.path)
    if suffix == NPZ_SUFFIX:
        return _refuse_npz
    return _open_raw if suffix in RAW_SUFFIXES else None


def _open_raw(location: Location) -> Container:
    if location.shape is None or location.dtype is None:
        raise InputError(
            f"{location}: a raw file does not say what it holds; give its shape and dtype: "
            f"{{path: {location.path.name}, shape: [100, 512, 512], dtype: uint16}}"
        )
    return open_raw(location.path, location.shape, location.dtype)


def _refuse_npz(location: Location) -> Container:
    raise InputError(
        f"{location}: an .npz file can only be read as a whole; save its array as {NPY_SUFFIX}"
    )


def _open_zarr(location: Location) -> Container:
    if location.path.is_file():
        raise InputError(
            f"{location}: {INNER} names an array in an HDF5 file ({', '.join(hdf5.SUFFIXES)}) or "
            "a zarr folder; this file is neither"
        )
    return ZarrArray(location.path, location.inner)


_open: "OrderedDict[tuple[object, ...], Container]" = OrderedDict()
"""Files that this process has open, the last used last."""
_decoded: "OrderedDict[tuple[object, ...], Container]" = OrderedDict()
"""Pictures, which are decoded as a whole, likewise."""


def _opened(location: Location, indexed: bool) -> Container:
    """Open a file, or take it from those that are open and have not changed since."""
    opener = _opener(location)
    state = location.path.stat()
    key = (location.path, location.inner, location.shape, location.dtype, indexed)
    version = (*key, state.st_mtime_ns, state.st_size, state.st_ino)
    files, limit = (_open, MAX_OPEN) if opener else (_decoded, MAX_DECODED)
    if version not in files:
        for other in [other for other in files if other[: len(key)] == key]:
            files.pop(other).close()
        while len(files) >= limit:
            files.popitem(last=False)[1].close()
        files[version] = opener(location) if opener else Picture(location.path, indexed)
    files.move_to_end(version)
    return files[version]


_lock = threading.RLock()
"""Held while a file is used: it can be at one place only, and may be closed for another."""


def _forget_open_files() -> None:
    """A worker opens its own: processes that share an open file share their place in it."""
    global _lock  # noqa: PLW0603 - a thread of the parent may hold the old one for ever
    _lock = threading.RLock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_open_files)

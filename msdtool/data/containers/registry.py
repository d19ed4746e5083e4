"""The file formats that are read: how each is recognised and what opens it.

Another format is another entry of `FORMATS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdtool.data.containers.base import Container
from msdtool.data.containers.flat import open_npy, open_raw
from msdtool.data.containers.hdf5 import Hdf5Array
from msdtool.data.containers.tiff import open_tiff
from msdtool.data.containers.zarr import SUFFIX as ZARR_SUFFIX
from msdtool.data.containers.zarr import ZarrArray
from msdtool.errors import InputError
from msdtool.specifier_grammar import INNER, Location


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: a short name; where results can be written in the format, that of the sink.
        suffixes: of its files, in lower case.
        signatures: what its files begin with, by which those of other suffixes are recognised.
        open: opens a file without reading its pixels; None: an image that is decoded as a whole.
    """

    name: str
    suffixes: frozenset[str]
    open: Callable[[Location], Container] | None
    signatures: tuple[bytes, ...] = ()


def _open_raw(location: Location) -> Container:
    if location.shape is None or location.dtype is None:
        raise InputError(
            f"{location}: a raw file does not record what it contains; give its shape and dtype: "
            f"{{path: {location.path.name}, shape: [100, 512, 512], dtype: uint16}}"
        )
    return open_raw(location.path, location.shape, location.dtype)


def _refuse_npz(location: Location) -> Container:
    raise InputError(
        f"{location}: an .npz file can only be read as a whole; save its array as .npy"
    )


def _open_zarr(location: Location) -> Container:
    if location.path.is_file():
        suffixes = ", ".join(sorted(HDF5.suffixes))
        raise InputError(
            f"{location}: {INNER} names an array in an HDF5 file ({suffixes}) or a zarr folder; "
            "this file is neither"
        )
    return ZarrArray(location.path, location.inner)


TIFF = Format(
    "tif",
    frozenset({".tif", ".tiff", ".btf", ".tf8"}),
    lambda place: open_tiff(place.path),
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
HDF5 = Format(
    "h5",
    frozenset({".h5", ".hdf5", ".hdf", ".he5", ".nxs"}),
    lambda place: Hdf5Array(place.path, place.inner),
    (b"\x89HDF\r\n\x1a\n",),
)
ZARR = Format("zarr", frozenset({ZARR_SUFFIX}), _open_zarr)
NPY = Format(
    "npy", frozenset({".npy"}), lambda place: open_npy(place.path), (np.lib.format.MAGIC_PREFIX,)
)
NPZ = Format("npz", frozenset({".npz"}), _refuse_npz)
RAW = Format("raw", frozenset({".raw", ".bin"}), _open_raw)
RASTER = Format("raster", frozenset(), None)
"""PNG, JPEG, BMP and whatever else imageio reads: what no other format has."""

FORMATS = (TIFF, HDF5, ZARR, NPY, NPZ, RAW)
USER_BLOCKS = (0, 512, 1024, 2048)
"""Where an HDF5 file may begin, as that of MATLAB does at 512."""
_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}


def format_of(path: Path) -> Format:
    """The format that the suffix of a path stands for."""
    return _BY_SUFFIX.get(path.suffix.lower(), RASTER)


def format_at(location: Location) -> Format:
    """The format of a file: by what is known about it, then its suffix, then how it begins.

    Microscopes, scanners and netCDF have their own suffixes for TIFF and HDF5. As raster images,
    they would be read in part: the first page, or colours that are none.
    """
    if location.shape is not None:
        return RAW
    found = format_of(location.path)
    if found is RASTER:
        found = _by_signature(location.path)
    if found is not HDF5 and (location.inner or location.path.is_dir()):
        return ZARR
    return found


def _by_signature(path: Path) -> Format:
    """The format of a file of unknown suffix; RASTER where reading will report what is wrong."""
    if not path.is_file():  # a pipe would wait for ever
        return RASTER
    try:
        with path.open("rb") as file:
            content = file.read(USER_BLOCKS[-1] + 8)
    except OSError:
        return RASTER
    for start in USER_BLOCKS:
        if content.startswith(HDF5.signatures, start):
            return HDF5
    return next((one for one in FORMATS if content.startswith(one.signatures)), RASTER)

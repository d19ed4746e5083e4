"""The file formats that are read: how each is recognised and what opens it.

Another format is another entry of `FORMATS`.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from msdtool.data.containers import hdf5 as hdf5_file
from msdtool.data.containers import zarr as zarr_store
from msdtool.data.containers.base import Container
from msdtool.data.containers.czi import count_scenes, describe_czi, open_czi
from msdtool.data.containers.detector import DetectorFrames
from msdtool.data.containers.flat import open_npy, open_raw
from msdtool.data.containers.hdf5 import Hdf5Array
from msdtool.data.containers.lif import count_images, describe_lif, open_lif
from msdtool.data.containers.mrc import describe_mrc, open_mrc
from msdtool.data.containers.nd2 import count_positions, describe_nd2, open_nd2
from msdtool.data.containers.nifti import NiftiArray, describe_nifti
from msdtool.data.containers.nrrd import describe_nrrd, open_nrrd
from msdtool.data.containers.tiff import open_alone, open_tiff
from msdtool.data.containers.zarr import SUFFIX as ZARR_SUFFIX
from msdtool.data.containers.zarr import ZarrArray
from msdtool.data.metadata import Metadata, hdf5, ngff, tiff
from msdtool.data.metadata.base import steps_of
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
        describe: reads what a file says besides the pixels, given a letter per axis; None: nothing.
        count_arrays: number of arrays in a file that could be images; None: it holds one.
    """

    name: str
    suffixes: frozenset[str]
    open: Callable[[Location], Container] | None
    signatures: tuple[bytes, ...] = ()
    describe: Callable[[Location, str], Metadata] | None = None
    count_arrays: Callable[[Path], int] | None = None


def _describe_tiff(location: Location, _axes: str) -> Metadata:
    with open_alone(location.path) as file:
        return tiff.read(file)


def _describe_hdf5(location: Location, axes: str) -> Metadata:
    with closing(Hdf5Array(location.path, location.inner)) as array:
        return hdf5.read(array.dataset, axes)


def _describe_zarr(location: Location, axes: str) -> Metadata:
    with closing(ZarrArray(location.path, location.inner)) as found:
        if found.group is not None and ngff.multiscales(found.group):
            return ngff.read(found.group, found.array.basename, axes)
        attributes = dict(found.array.attrs)
        steps = steps_of(attributes.pop("steps", None))
        return Metadata(steps=steps, attributes=attributes)


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
    _describe_tiff,
)
HDF5 = Format(
    "h5",
    frozenset({".h5", ".hdf5", ".hdf", ".he5", ".nxs"}),
    lambda place: Hdf5Array(place.path, place.inner),
    (b"\x89HDF\r\n\x1a\n",),
    _describe_hdf5,
    hdf5_file.count_arrays,
)
ZARR = Format(
    "zarr",
    frozenset({ZARR_SUFFIX}),
    _open_zarr,
    describe=_describe_zarr,
    count_arrays=zarr_store.count_arrays,
)
NPY = Format(
    "npy", frozenset({".npy"}), lambda place: open_npy(place.path), (np.lib.format.MAGIC_PREFIX,)
)
NPZ = Format("npz", frozenset({".npz"}), _refuse_npz)
MRC = Format("mrc", frozenset({".mrc", ".mrcs", ".rec", ".st", ".ali"}), open_mrc, (), describe_mrc)
NIFTI = Format("nii", frozenset({".nii", ".nii.gz"}), NiftiArray, (), describe_nifti)
NRRD = Format("nrrd", frozenset({".nrrd"}), open_nrrd, (b"NRRD000",), describe_nrrd)
CZI = Format("czi", frozenset({".czi"}), open_czi, (b"ZISRAWFILE",), describe_czi, count_scenes)
LIF = Format("lif", frozenset({".lif"}), open_lif, (), describe_lif, count_images)
ND2 = Format(
    "nd2",
    frozenset({".nd2"}),
    open_nd2,
    (b"\xda\xce\xbe\x0a",),
    describe_nd2,
    count_positions,
)
DETECTOR = Format("detector", frozenset({".edf", ".cbf"}), DetectorFrames)
RAW = Format("raw", frozenset({".raw", ".bin"}), _open_raw)
RASTER = Format("raster", frozenset(), None)
"""PNG, JPEG, BMP and whatever else imageio reads: what no other format has."""

FORMATS = (TIFF, HDF5, ZARR, NPY, NPZ, MRC, NIFTI, NRRD, CZI, LIF, ND2, DETECTOR, RAW)
USER_BLOCKS = (0, 512, 1024, 2048)
"""Where an HDF5 file may begin, as that of MATLAB does at 512."""
_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}


def suffix_of(path: Path) -> str:
    """The suffix of a path that stands for a format, in lower case, such as ".nii.gz".

    What begins with a digit stands for none: scan.8 is image 8 of a scan.
    """
    double = "".join(path.suffixes[-2:]).lower()
    if double in _BY_SUFFIX:
        return double
    return "" if path.suffix[1:2].isdecimal() else path.suffix.lower()


def stem_of(path: Path) -> str:
    """The name of a path without that suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def format_of(path: Path) -> Format:
    """The format that the suffix of a path stands for."""
    return _BY_SUFFIX.get(suffix_of(path), RASTER)


def is_image_name(path: Path) -> bool:
    """Whether a file of this name is an image in a known format."""
    return format_of(path) is not RASTER or path.suffix.lower() in Image.registered_extensions()


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
    if found.count_arrays is None and (location.inner or location.path.is_dir()):
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

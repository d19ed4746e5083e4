"""MRC, as electron microscopes and their programs write it: read by ranges."""

import numpy as np

from msdtool.data.containers.flat import FlatArray
from msdtool.data.extras import load_extra
from msdtool.data.metadata import Metadata, mrc
from msdtool.errors import InputError
from msdtool.specifier_grammar import Location

DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""The types of pixels by their number, MODE."""
VOLUMES = 401
"""The smallest number of a space group, ISPG, that stands for a series of volumes."""

IMOD_STAMP, IMOD, SIGNED_BYTES = 152, 1146047817, 1
"""Where IMOD leaves its mark in a header, the mark, and a bit of the flags behind it."""


def open_mrc(location: Location) -> FlatArray:
    """Open an MRC file.

    Raises:
        InputError: mrcfile is not installed, or the pixels are complex or packed.
        ValueError: the file is damaged.
    """
    header = _header(location)
    mode = int(header.mode)
    if mode not in DTYPES:
        raise InputError(f"{location}: pixels of the MRC mode {mode} are not real numbers")
    if (int(header.mapc), int(header.mapr), int(header.maps)) != (1, 2, 3):
        raise InputError(
            f"{location}: its axes are not in the order X, Y, Z; save it in that order"
        )
    order = header.dtype["nx"].byteorder
    kind = "u1" if mode == 0 and _has_unsigned_bytes(header) else DTYPES[mode]
    dtype = np.dtype(kind).newbyteorder(order)
    nz = int(header.nz)
    shape: tuple[int, ...] = (int(header.ny), int(header.nx))
    per_volume = int(header.mz) if int(header.ispg) >= VOLUMES and int(header.mz) > 0 else nz
    if nz % per_volume:
        raise ValueError(f"it is damaged: {nz} sections do not divide into volumes")
    if nz != per_volume:
        shape = (nz // per_volume, per_volume, *shape)
    elif nz > 1:
        shape = (nz, *shape)
    offset = mrc.HEADER_BYTES + int(header.nsymbt)
    return FlatArray(location.path, offset, shape, dtype, "TZYX"[-len(shape) :])


def _has_unsigned_bytes(header: np.recarray) -> bool:
    """Whether IMOD wrote the file, and says that bytes have no sign (MRC format of IMOD)."""
    order = header.dtype["nx"].byteorder
    extra = np.frombuffer(header.tobytes(), np.dtype(np.int32).newbyteorder(order))
    stamp, flags = extra[IMOD_STAMP // 4], extra[IMOD_STAMP // 4 + 1]
    return bool(stamp == IMOD and not flags & SIGNED_BYTES)


def describe_mrc(location: Location, _axes: str) -> Metadata:
    """Return what an MRC file says besides the pixels."""
    return mrc.read(_header(location))


def _header(location: Location) -> np.recarray:
    mrcfile = load_extra("mrcfile", location.path)
    with mrcfile.open(location.path, header_only=True, permissive=True) as file:
        if file.header is None:
            raise ValueError("it is damaged: there is no header")
        return file.header.copy()

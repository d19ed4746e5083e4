"""NRRD: uncompressed files read by ranges, compressed ones as a whole."""

from typing import Any

import numpy as np

from msdtool.data.containers.base import Array, Container, Key
from msdtool.data.containers.flat import FlatArray
from msdtool.data.extras import load_extra
from msdtool.data.metadata import Metadata, nrrd
from msdtool.errors import InputError
from msdtool.specifier_grammar import Location


def open_nrrd(location: Location) -> Container:
    """Open an NRRD file.

    Raises:
        InputError: pynrrd is not installed, or the pixels lie in another file.
    """
    library = load_extra("nrrd", location.path)
    header, offset = _header(location)
    if "data file" in header or "datafile" in header:
        raise InputError(f"{location}: its pixels lie in another file; save both as one .nrrd")
    axes = nrrd.axes_of(header)
    if header["encoding"] == "raw" and not {"byte skip", "line skip"} & header.keys():
        order = ">" if header.get("endian") == "big" else "<"
        dtype = np.dtype(library.reader._determine_datatype(header)).newbyteorder(order)
        shape = tuple(int(size) for size in reversed(header["sizes"]))
        return FlatArray(location.path, offset, shape, dtype, axes)
    return DecodedArray(library.read(str(location.path), index_order="C")[0], axes)


class DecodedArray(Container):
    """An array in memory."""

    def __init__(self, pixels: Array, axes: str) -> None:
        self.pixels, self.axes = pixels, axes
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def read(self, key: Key) -> Array:
        """Read a part."""
        part: Array = self.pixels[key]
        return part

    def close(self) -> None:
        """Do nothing: no file is open."""


def describe_nrrd(location: Location, axes: str) -> Metadata:
    """Return what an NRRD file says besides the pixels."""
    return nrrd.read(_header(location)[0], axes)


def _header(location: Location) -> tuple[dict[str, Any], int]:
    library = load_extra("nrrd", location.path)
    with location.path.open("rb") as file:
        return dict(library.read_header(file)), file.tell()

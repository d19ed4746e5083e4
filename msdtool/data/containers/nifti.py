"""NIfTI, compressed or not: read by ranges, in the units that its header says."""

from typing import Any

import numpy as np

from msdtool.data.containers.base import Array, Container, Key
from msdtool.data.extras import load_extra
from msdtool.data.metadata import Metadata, nifti
from msdtool.errors import InputError
from msdtool.specifier_grammar import Location

LETTERS = "XYZTC"


class NiftiArray(Container):
    """An image. Its slope and intercept are applied, as all programs for such files do.

    Raises:
        InputError: nibabel is not installed, or the pixels are colours.
    """

    def __init__(self, location: Location) -> None:
        nibabel = load_extra("nibabel", location.path)
        image = nibabel.load(location.path)
        self.pixels = image.dataobj
        sizes = tuple(map(int, self.pixels.shape))
        letters = LETTERS[: len(sizes)]
        while len(sizes) > 2 and letters[-1] in "TC" and sizes[-1] == 1:
            sizes, letters = sizes[:-1], letters[:-1]
        if "T" in letters and "C" in letters and sizes[3] == 1:
            sizes, letters = sizes[:3] + sizes[4:], "XYZC"
        self.given = [letters.find(letter) for letter in LETTERS[: self.pixels.ndim]]
        self.shape, self.axes = sizes[::-1], letters[::-1]
        dtype = image.get_data_dtype()
        if dtype.kind == "V":
            raise InputError(f"{location}: holds colours, which NIfTI packs; save each as an image")
        is_scaled = (self.pixels.slope, self.pixels.inter) != (1.0, 0.0)
        self.dtype = np.dtype(np.float64) if is_scaled else dtype

    def read(self, key: Key) -> Array:
        """Read a part."""
        by_axis = key[::-1]
        whole: Any = tuple(by_axis[axis] if axis >= 0 else 0 for axis in self.given)
        part: Array = np.asarray(self.pixels[whole]).transpose()
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""


def describe_nifti(location: Location, _axes: str) -> Metadata:
    """Return what a NIfTI file says besides the pixels."""
    nibabel = load_extra("nibabel", location.path)
    return nifti.read(nibabel.load(location.path))

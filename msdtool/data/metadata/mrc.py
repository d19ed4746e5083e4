"""MRC2014: pixel sizes in ångström (Cheng et al., J. Struct. Biol. 192, 2015)."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.extras import load_extra
from msdtool.data.metadata.base import METRES, Description, Metadata, step_of
from msdtool.errors import InputError

MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
"""The numbers of the types of pixels that are written."""
SPACE_GROUPS = {"YX": 0, "ZYX": 1, "TZYX": 401}
"""The numbers that stand for an image, a volume and a series of volumes."""
SPACE = "XYZ"
HEADER_BYTES = 1024
LABEL = 80
"""Characters of each of the ten lines of text in a header."""


def read(header: Any) -> Metadata:
    """Return what the header of an MRC file says.

    Args:
        header: of the mrcfile library.
    """
    found = {}
    for letter, samples in (("X", "mx"), ("Y", "my"), ("Z", "mz")):
        cell, start = float(header.cella[letter.lower()]), float(header.origin[letter.lower()])
        count = int(header[samples])
        step = step_of(cell / count if count else 0, "Å", start)
        if step is not None:
            found[letter] = step
    return Metadata(steps=found)


def write(
    path: Path, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any], description: Description
) -> None:
    """Write the header of an MRC file, and make room for its pixels.

    Raises:
        InputError: the format has no such pixels or axes.
    """
    mrcfile = load_extra("mrcfile", path)
    if axes not in SPACE_GROUPS:
        raise InputError(
            f"the axes {axes} cannot be written as MRC, which holds images, volumes and series of "
            "volumes without channels; choose another format"
        )
    if dtype.name not in MODES:
        raise InputError(
            f"MRC has no pixels of type {dtype}; choose another format, or one of the dtypes "
            f"{', '.join(MODES)}"
        )
    header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE)
    header["mode"] = MODES[dtype.name]
    header["nx"], header["ny"] = header["mx"], header["my"] = shape[:-3:-1]
    header["mz"] = shape[-3] if "Z" in axes else 1
    header["nz"] = prod(shape[:-2])
    header["ispg"] = SPACE_GROUPS[axes]
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["cellb"] = (90.0, 90.0, 90.0)
    header["dmax"], header["dmean"], header["rms"] = -1, -2, -1  # not known
    header["map"], header["nversion"] = b"MAP ", 20140
    header["machst"] = mrcfile.utils.machine_stamp_from_byte_order("=")
    for letter, step in description.metadata.steps.items():
        if letter in SPACE and step.metres is not None:
            scale = METRES[step.unit] / METRES["Å"]
            count = int(header[f"m{letter.lower()}"])
            header["cella"][letter.lower()] = step.size * scale * count
            header["origin"][letter.lower()] = step.start * scale
    lines = [f"{key} {value}" for key, value in description.facts.items()]
    for number, line in enumerate(line[:LABEL] for line in lines):
        header["label"][number] = line.encode("ascii", "replace")
    header["nlabl"] = len(lines)
    with path.open("wb") as file:
        file.write(header.tobytes())
        file.truncate(header.nbytes + prod(shape) * dtype.itemsize)

"""NIfTI: where voxels are in space (https://nifti.nimh.nih.gov)."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.extras import load_extra
from msdtool.data.metadata.base import METRES, Description, Metadata, Step, known_unit, step_of
from msdtool.errors import InputError

UNITS = {"m": "meter", "mm": "mm", "µm": "micron"}
MAX_SIZE = 2**15 - 1
"""Largest size of an axis in NIfTI-1; longer ones make a NIfTI-2 file."""


def read(image: Any) -> Metadata:
    """Return what the header of an image says.

    Args:
        image: of the nibabel library.
    """
    length, time = (known_unit(unit) for unit in image.header.get_xyzt_units())
    zooms = [float(size) for size in image.header.get_zooms()]
    has_place = int(image.header.get("sform_code", 0)) or int(image.header.get("qform_code", 0))
    affine = np.asarray(image.affine, np.float64)
    steps = {}
    for axis, (letter, size) in enumerate(zip("XYZT", zooms, strict=False)):
        start = affine[axis, 3] if has_place and axis < 3 else 0.0
        unit = time if letter == "T" else length
        step = step_of(size, "" if unit == "unknown" else unit, start)
        if step is not None:
            steps[letter] = step
    return Metadata(steps=steps, affine=tuple(map(tuple, affine.tolist())) if has_place else None)


def write(
    path: Path, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any], description: Description
) -> None:
    """Write the header of a NIfTI file, and make room for its pixels, the end of the file.

    Raises:
        InputError: the format has no such pixels or axes.
    """
    nibabel = load_extra("nibabel", path)
    sizes = _sizes(shape, axes)
    kind = nibabel.Nifti2Image if max(sizes) > MAX_SIZE else nibabel.Nifti1Image
    metadata = description.metadata
    affine = metadata.affine or _affine(metadata.steps)
    try:
        # Zeros that take no memory.
        pixels = np.broadcast_to(np.zeros((), dtype), sizes)
        image = kind(pixels, np.array(affine), dtype=dtype)
    except Exception as error:
        raise InputError(f"NIfTI cannot hold such pixels: {error}") from None
    header = image.header
    zooms = list(header.get_zooms())
    time = metadata.steps.get("T")
    if len(zooms) > 3 and time is not None:
        zooms[3] = time.size
    header.set_zooms(zooms)
    length = metadata.steps.get("X", Step(1.0)).unit
    # The affine of a NIfTI file is kept in the unit of that file.
    unit = UNITS.get(length) if metadata.affine else "mm" if length in METRES else None
    seconds = "sec" if time is not None and time.unit == "s" else None
    header.set_xyzt_units(unit, seconds)
    if description.packing is not None:
        header.set_slope_inter(*description.packing)
    if description.provenance is not None:
        header["descrip"] = description.provenance.program.encode()
        comment = "\n".join(f"{key} = {value}" for key, value in description.facts.items())
        header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", comment.encode()))
    with path.open("wb") as file:
        offset = 352 if kind is nibabel.Nifti1Image else 544
        offset += int(header.extensions.get_sizeondisk())
        header.set_data_offset(offset)
        header.write_to(file)
        file.truncate(offset + prod(shape) * dtype.itemsize)


def _sizes(shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """The sizes in the order X, Y, Z, T, C, which must be that of memory, read backwards."""
    if axes not in ("YX", "ZYX", "TZYX", "CYX", "CZYX"):
        raise InputError(f"the axes {axes} cannot be written as NIfTI; choose another format")
    by_letter = dict(zip(axes, shape, strict=True))
    letters = "XYZTC" if "C" in axes else "XYZT" if "T" in axes else "XYZ" if "Z" in axes else "XY"
    return tuple(by_letter.get(letter, 1) for letter in letters)


def _affine(steps: Any) -> list[list[float]]:
    """The place of voxels in millimetres, where lengths are known; else in units of the file."""
    affine = np.eye(4)
    for row, letter in enumerate("XYZ"):
        step = steps.get(letter, Step(1.0))
        unit = METRES[step.unit] / METRES["mm"] if step.unit in METRES else 1.0
        affine[row, row], affine[row, 3] = step.size * unit, step.start * unit
    return affine.tolist()

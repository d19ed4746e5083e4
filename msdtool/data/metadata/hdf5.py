"""HDF5: NeXus, dimension scales (netCDF), ``element_size_um`` and plain attributes.

NeXus: https://manual.nexusformat.org/classes/base_classes/NXdata.html; ``element_size_um``, in the
order Z, Y, X, is what ilastik and the HDF5 plugin of Fiji use.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from math import isfinite, prod
from typing import Any

import numpy as np

from msdtool.data.metadata import nexus
from msdtool.data.metadata.base import METRES, Description, Metadata, Packing, Step, step_of

STRUCTURE = {
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    "DIMENSION_LABELS",
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "_NCProperties",
    "element_size_um",
    "signal",
    "axes",
}
"""Attributes that say where things are in a file."""
OF_STORED_VALUES = {"_FillValue", "missing_value", "valid_min", "valid_max", "valid_range"}
"""Attributes about the values of the input, which those of the result are not."""
MAX_VALUES = 1000
MAX_BYTES = 2**16
"""Attributes of more values or bytes than these are data of their own."""
MAX_ATTRIBUTES = 200
MAX_POSITIONS = 2**24
"""Longer axes are not looked at; a damaged file may name any length."""
ELEMENT_SIZE = "element_size_um"
SCALES = "DIMENSION_LIST"
REGULAR = 1e-4
"""Largest difference of steps, relative to their mean, of an axis whose pixels are regular."""


def read(dataset: Any, axes: str) -> Metadata:
    """Return what an open file says about a dataset.

    Args:
        dataset: of h5py.
        axes: the letter of each of its axes.
    """
    steps: dict[str, Step] = {}
    sizes = np.ravel(_value(dataset.attrs, ELEMENT_SIZE))
    space = [letter for letter in axes if letter in "ZYX"]
    if len(sizes) in (len(space), 3):
        for letter, size in zip(reversed(space), reversed(sizes.tolist()), strict=False):
            _note(steps, letter, step_of(size, "µm"))
    for letter, scale, length in zip(axes, _scales(dataset), dataset.shape, strict=True):
        if scale is not None:
            _note(steps, letter, _step(scale, length))
    attributes = dict(islice(_attributes(dataset.attrs), MAX_ATTRIBUTES))
    return Metadata("", steps, (), (), attributes)


def _note(steps: dict[str, Step], letter: str, step: Step | None) -> None:
    if step is not None:
        steps[letter] = step


def _scales(dataset: Any) -> list[Any]:
    """The positions along each axis, None where there are none."""
    found = dict(_attached(dataset)) | nexus.axes(dataset)
    return [found.get(axis) for axis in range(dataset.ndim)]


def _attached(dataset: Any) -> Iterator[tuple[int, Any]]:
    """The first dimension scale of each axis that has one.

    HDF5's own functions for them take on trust what the attribute holds; see
    `msdtool.data.containers.hdf5`.
    """
    attributes = dataset.attrs
    if SCALES not in attributes or attributes.get_id(SCALES).shape != (dataset.ndim,):
        return
    for axis, references in enumerate(attributes[SCALES]):
        # Of a damaged file they may be of another type, or lead nowhere.
        with suppress(IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError):
            scale = dataset.file[references[0]]
            if hasattr(scale, "shape"):
                yield axis, scale


def _step(scale: Any, length: int) -> Step | None:
    """The step of positions of so many pixels, if it is the same between all of them."""
    is_line = scale.shape in ((length,), (length + 1,)) and 2 <= scale.shape[0] <= MAX_POSITIONS
    if not is_line or scale.dtype.kind not in "iuf":
        return None
    positions = np.asarray(scale[()], np.float64)
    with np.errstate(all="ignore"):
        size = (positions[-1] - positions[0]) / (len(positions) - 1)
        if not np.allclose(np.diff(positions), size, rtol=REGULAR, atol=0):
            return None
    return step_of(size, nexus.text(scale.attrs.get("units", "")), positions[0])


def _attributes(attributes: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that are numbers, text or short lists of these."""
    for name in attributes:
        if name not in STRUCTURE | OF_STORED_VALUES:
            value = _value(attributes, name)
            array = np.asarray(value)
            is_plain = array.dtype.kind in "biufSU" or isinstance(value, str)
            if array.size and is_plain and array.nbytes <= MAX_BYTES:
                yield name, value


def _value(attributes: Any, name: str) -> Any:
    """An attribute; an empty tuple if there is none, a large one, or one that cannot be read."""
    with suppress(KeyError, OSError, RuntimeError, TypeError, ValueError):
        stored = attributes.get_id(name)
        size = prod(stored.shape or ())
        if size <= MAX_VALUES and size * stored.dtype.itemsize <= MAX_BYTES:
            return attributes[name]
    return ()


def write(dataset: Any, axes: str, description: Description) -> None:
    """Say in an open file what a dataset holds; call it before its pixels have a place.

    Args:
        dataset: of h5py.
        axes: a letter for each of its axes.
        description: what to say.
    """
    metadata = description.metadata
    for name, value in packed(metadata.attributes, description.packing).items():
        dataset.attrs[name] = value
    if description.provenance is not None:
        for name, text in description.provenance._asdict().items():
            dataset.attrs[f"msdtool_{name}"] = text
    if metadata.channels:
        dataset.attrs["channels"] = list(metadata.channels)
    steps = metadata.steps
    space = [letter for letter in axes if letter in "ZYX"]
    if space and all(letter in steps and steps[letter].metres is not None for letter in space):
        sizes = [(steps[letter].metres or 0.0) / METRES["µm"] for letter in space]
        dataset.attrs[ELEMENT_SIZE] = sizes
    names = []
    for axis, letter in enumerate(axes):
        dataset.dims[axis].label = letter.lower()
        names.append(_add_scale(dataset, axis, letter, steps[letter]) if letter in steps else ".")
    group = dataset.parent
    if group.name != "/":  # of the root, NeXus requires another class
        group.attrs.update({"NX_class": "NXdata", "signal": dataset.name.split("/")[-1]})
        group.attrs["axes"] = names


def packed(attributes: Mapping[str, Any], packing: Packing | None) -> dict[str, Any]:
    """Return attributes that say how values are stored, by the CF conventions, section 8.1.

    An input that says so itself was read as it is stored: its slope comes on top.
    """
    if packing is None:
        return dict(attributes)
    slope, offset = (
        _number(attributes.get(name), default)
        for name, default in (("scale_factor", 1.0), ("add_offset", 0.0))
    )
    return {
        **attributes,
        "scale_factor": slope * packing.slope,
        "add_offset": slope * packing.offset + offset,
    }


def _number(value: Any, default: float) -> float:
    """A number that a file gives, or the default if it is none."""
    try:
        found = float(np.ravel(value)[0])
    except (IndexError, TypeError, ValueError):
        return default
    return found if isfinite(found) else default


def _add_scale(dataset: Any, axis: int, letter: str, step: Step) -> str:
    """Add the positions along an axis beside the dataset; return their name."""
    name = letter.lower()
    if name in dataset.parent:  # the dataset itself
        return "."
    positions = step.start + step.size * np.arange(dataset.shape[axis])
    scale = dataset.parent.create_dataset(name, data=positions)
    scale.attrs["units"] = step.unit
    scale.make_scale(name)
    dataset.dims[axis].attach_scale(scale)
    return name

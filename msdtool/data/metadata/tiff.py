"""TIFF: OME-XML, ImageJ, GeoTIFF, resolution, and the description that tifffile writes.

OME-TIFF: https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html; GeoTIFF: OGC
19-008r4; resolution: TIFF 6.0, section 8.
"""

import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import tifffile

from msdtool.data.metadata.base import (
    GEOGRAPHIC,
    METRES,
    Description,
    Metadata,
    Step,
    Tag,
    known_unit,
    step_of,
    steps_of,
)
from msdtool.errors import InputError

SPACE = "XYZ"
RESOLUTION_UNITS = {2: "inch", 3: "cm"}
IMAGEJ_TYPES = ("uint8", "uint16", "float32")
IMAGEJ_BYTES = 2**32 - 2**25
"""ImageJ cannot read larger files: their offsets have 32 bits."""
MAX_INTEGER = 2**32 - 1
OME_TYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
OME_NAME = re.compile(r"\.ome\.(tiff?|btf|tf[28])$", re.IGNORECASE)


def read(file: tifffile.TiffFile) -> Metadata:
    """Return what an open TIFF says about its first image."""
    page = file.pages.first
    steps, convention = _resolution(page), ""
    channels: tuple[str, ...] = ()
    if file.ome_metadata:
        convention = "ome"
        steps, channels = from_ome(file.ome_metadata)
    elif file.is_imagej:
        convention = "imagej"
        steps = _from_imagej(file.imagej_metadata or {}, page)
    elif file.shaped_metadata:
        content = file.shaped_metadata[0]
        steps |= steps_of(content.get("steps"))
        channels = _names(content.get("channels"))
    tags = tuple(
        Tag(tag.code, int(tag.dtype), tag.count, tag.value)
        for tag in page.tags
        if tag.code in GEOGRAPHIC
    )
    return Metadata(convention, steps, channels, tags)


def _resolution(page: Any) -> dict[str, Step]:
    """The pixel size by the tags of resolution, where these have a unit."""
    unit = RESOLUTION_UNITS.get(int(page.tags.valueof("ResolutionUnit", 2)), "")
    found = {}
    for letter, name in (("X", "XResolution"), ("Y", "YResolution")):
        value = page.tags.valueof(name)
        if value is not None and unit and value[0] > 0 and value[1] > 0 and value[0] != value[1]:
            found[letter] = Step(value[1] / value[0], unit)
    return found


def from_ome(xml: str) -> tuple[dict[str, Step], tuple[str, ...]]:
    """The steps and channels of the first image of OME-XML; units have defaults there."""
    try:
        images = _each(tifffile.xml2dict(xml).get("OME", {}).get("Image"))
    except Exception:  # whatever the parser raises: the pixels are readable without it
        return {}, ()
    pixels = next(images, {}).get("Pixels", {})
    plane = next(_each(pixels.get("Plane")), {})
    steps = {}
    for letter in SPACE:
        unit = known_unit(str(pixels.get(f"PhysicalSize{letter}Unit", "µm")))
        start = 0.0
        if known_unit(str(plane.get(f"Position{letter}Unit", ""))) == unit:
            start = plane.get(f"Position{letter}", 0.0)
        steps[letter] = step_of(pixels.get(f"PhysicalSize{letter}"), unit, start)
    steps["T"] = step_of(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    names = _names([channel.get("Name") for channel in _each(pixels.get("Channel"))])
    return {letter: step for letter, step in steps.items() if step is not None}, names


def _each(content: Any) -> Iterator[dict[str, Any]]:
    """The elements of one name: `tifffile.xml2dict` makes a list only of several."""
    for item in content if isinstance(content, list | tuple) else [content]:
        if isinstance(item, dict):
            yield item


def _names(content: Any) -> tuple[str, ...]:
    """Names of channels, if each has one."""
    names = content if isinstance(content, list) else []
    return tuple(map(str, names)) if all(isinstance(name, str | int) for name in names) else ()


def _from_imagej(content: Mapping[str, Any], page: Any) -> dict[str, Step]:
    """The steps of ImageJ's description; resolution is in its unit, times are in seconds."""
    unit = _unescaped(str(content.get("unit", "")))
    steps = {}
    if known_unit(unit) not in ("", "pixel"):
        for letter, name in (("X", "XResolution"), ("Y", "YResolution")):
            pixels, units = page.tags.valueof(name) or (0, 0)
            steps[letter] = step_of(units / pixels if pixels else None, unit)
        steps["Z"] = step_of(content.get("spacing"), unit)
    steps["T"] = step_of(content.get("finterval"), content.get("tunit", "s"))
    found = {letter: step for letter, step in steps.items() if step is not None}
    for letter in SPACE:  # origins are pixels: the one whose centre is at 0
        origin = step_of(1, "", content.get(f"{letter.lower()}origin", 0.0))
        if letter in found and origin is not None and origin.start:
            step = found[letter]
            found[letter] = step._replace(start=-origin.start * step.size)
    return found


def _unescaped(text: str) -> str:
    """Text in which Java wrote characters outside of ASCII by their numbers."""
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), text)


def _escaped(text: str) -> str:
    """Text with numbers in place of characters outside of ASCII, which the description lacks."""
    units = memoryview(text.encode("utf-16", "replace")).cast("H")[1:]  # after the mark of order
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04X}" for unit in units)


def header(
    name: str,
    shape: tuple[int, ...],
    axes: str,
    dtype: np.dtype[Any],
    description: Description,
) -> dict[str, Any]:
    """Return the arguments of `tifffile.imwrite` that say what a TIFF holds.

    The name decides for OME-TIFF. A result of an ImageJ file is one, too, if ImageJ can read it.

    Args:
        name: of the file.
        shape, axes, dtype: of the array; a letter for each axis.
        description: what else to say.

    Raises:
        InputError: OME-TIFF has no such pixels.
    """
    options = {"shape": shape, "dtype": dtype, "photometric": "minisblack"}
    if description.provenance is not None:
        options["software"] = description.provenance.program
    if OME_NAME.search(name):
        if dtype.name not in OME_TYPES:
            raise InputError(f"{name}: OME-TIFF has no pixels of type {dtype}; choose another name")
        return options | _ome(shape, axes, description)
    size = prod(shape) * dtype.itemsize
    is_ordered = "TZCYX".endswith(axes) or list(axes) == [x for x in "TZCYX" if x in axes]
    if (
        description.metadata.convention == "imagej"
        and dtype.name in IMAGEJ_TYPES
        and is_ordered
        and size < IMAGEJ_BYTES
    ):
        return options | _imagej(axes, description)
    return options | _plain(axes, description)


def _ome(shape: tuple[int, ...], axes: str, description: Description) -> dict[str, Any]:
    metadata = description.metadata
    content: dict[str, Any] = {"axes": axes}
    planes = prod(size for size, letter in zip(shape, axes, strict=True) if letter not in "YX")
    position: dict[str, Any] = {}
    for letter, step in metadata.steps.items():
        if letter in SPACE and step.metres is not None:
            content[f"PhysicalSize{letter}"] = step.size
            content[f"PhysicalSize{letter}Unit"] = _ome_unit(step.unit)
            if step.start:
                position[f"Position{letter}"] = [step.start] * planes
                position[f"Position{letter}Unit"] = [_ome_unit(step.unit)] * planes
        elif letter == "T" and step.unit in ("s", "ms", "min", "h"):
            content |= {"TimeIncrement": step.size, "TimeIncrementUnit": step.unit}
    if position:
        content["Plane"] = position
    if metadata.channels:
        content["Channel"] = {"Name": list(metadata.channels)}
    if description.facts:
        content["MapAnnotation"] = {key: str(value) for key, value in description.facts.items()}
    return {"ome": True, "metadata": content}


def _ome_unit(unit: str) -> str:
    return "in" if unit == "inch" else unit


def _imagej(axes: str, description: Description) -> dict[str, Any]:
    content: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"imagej": True, "metadata": content}
    steps = description.metadata.steps
    if {"X", "Y"} <= steps.keys():
        unit = steps["X"].unit
        content["unit"] = "um" if unit == "µm" else _escaped(unit)
        options |= _resolutions(1 / steps["X"].size, 1 / steps["Y"].size)
        for letter in SPACE:
            if letter in steps and steps[letter].start:
                content[f"{letter.lower()}origin"] = -steps[letter].start / steps[letter].size
    if "Z" in steps:
        content["spacing"] = steps["Z"].size
    if "T" in steps:
        content |= {"finterval": steps["T"].size, "tunit": _escaped(steps["T"].unit)}
    if description.packing is not None:  # a calibration by a straight line
        content |= {"cf": 0, "c0": description.packing.offset, "c1": description.packing.slope}
    if description.facts:
        content["Info"] = "\n".join(f"{key} = {value}" for key, value in description.facts.items())
    return options


def _plain(axes: str, description: Description) -> dict[str, Any]:
    metadata = description.metadata
    content: dict[str, Any] = {"axes": axes, **description.facts}
    options: dict[str, Any] = {
        "metadata": content,
        "extratags": [(*tag, True) for tag in metadata.tags],
    }
    if metadata.steps:
        content["steps"] = {letter: list(step) for letter, step in metadata.steps.items()}
    if metadata.channels:
        content["channels"] = list(metadata.channels)
    x, y = metadata.steps.get("X"), metadata.steps.get("Y")
    if x is not None and y is not None and x.metres is not None and y.metres is not None:
        unit = "inch" if x.unit == "inch" else "cm"
        options |= _resolutions(METRES[unit] / x.metres, METRES[unit] / y.metres)
        options["resolutionunit"] = unit.upper().replace("CM", "CENTIMETER")
    return options


def _resolutions(x: float, y: float) -> dict[str, Any]:
    """Pixels per unit, where fractions of 32 bits can express them."""
    can_be_said = all(1 / MAX_INTEGER <= value <= MAX_INTEGER for value in (x, y))
    return {"resolution": (x, y)} if can_be_said else {}

"""OME-Zarr (NGFF): which array is the image, its axes, pixel size and channels.

https://ngff.openmicroscopy.org, versions 0.4 (zarr format 2) and 0.5 (zarr format 3).
"""

from typing import Any

from msdtool.data.letters import letters
from msdtool.data.metadata.base import Metadata, Step, step_of

VERSION = "0.5"
UNITS = {
    "µm": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "km": "kilometer",
    "pm": "picometer",
    "Å": "angstrom",
    "inch": "inch",
    "s": "second",
    "ms": "millisecond",
    "min": "minute",
    "h": "hour",
}
"""The names of units that NGFF recommends (UDUNITS-2)."""
KNOWN = {name: unit for unit, name in UNITS.items()}
TYPES = {"T": "time", "C": "channel"}


def attributes(group: Any) -> dict[str, Any]:
    """What NGFF says about a group: from version 0.5 on under the key ome."""
    found = dict(group.attrs)
    return dict(found.get("ome", found))


def multiscales(group: Any) -> dict[str, Any]:
    """The description of an OME-Zarr image, empty for other groups."""
    found = attributes(group).get("multiscales") or [{}]
    return dict(found[0])


def axes_of(group: Any) -> str:
    """A letter for each axis of an OME-Zarr image; "" for other groups."""
    names = [_name(axis) for axis in multiscales(group).get("axes", [])]
    return letters(names, len(names))


def _name(axis: Any) -> str:
    return str(axis["name"] if isinstance(axis, dict) else axis)


def read(group: Any, name: str, axes: str) -> Metadata:
    """Return what an OME-Zarr group says about one of its arrays.

    Args:
        group: of the zarr library.
        name: of the array in it.
        axes: the letter of each axis.
    """
    image = multiscales(group)
    datasets = image.get("datasets", [])
    level: dict[str, Any] = next((one for one in datasets if one.get("path") == name), {})
    scale, start = _transformation(level, len(axes))
    outer_scale, outer_start = _transformation(image, len(axes))
    units = [axis.get("unit") if isinstance(axis, dict) else "" for axis in image.get("axes", [])]
    steps = {}
    for number, (letter, unit) in enumerate(zip(axes, units, strict=False)):
        size = scale[number] * outer_scale[number]
        first = start[number] * outer_scale[number] + outer_start[number]
        step = step_of(size, KNOWN.get(str(unit), unit), first)
        # A scale of 1 without a unit is what the standard demands where nothing is known.
        if step is not None and letter != "C" and step != Step(1.0):
            steps[letter] = step
    channels = [one.get("label") for one in attributes(group).get("omero", {}).get("channels", [])]
    names = tuple(map(str, channels)) if all(isinstance(one, str) for one in channels) else ()
    return Metadata("ome", steps, names)


def _transformation(content: dict[str, Any], count: int) -> tuple[list[float], list[float]]:
    """Scale and translation along each axis."""
    found = {"scale": [1.0] * count, "translation": [0.0] * count}
    for one in content.get("coordinateTransformations", []):
        values = one.get(one.get("type"))
        if one.get("type") in found and isinstance(values, list) and len(values) == count:
            found[one["type"]] = values
    return found["scale"], found["translation"]


def describe(
    axes: str,
    scales: list[tuple[int, ...]],
    metadata: Metadata,
    name: str,
) -> dict[str, Any]:
    """Return the attributes of the group of an OME-Zarr image, version 0.5.

    Args:
        axes: a letter per axis.
        scales: of each level, named "0", "1", ..., how many pixels of the image one of its pixels
            covers along each axis.
        metadata: what to say.
        name: of the image.
    """
    steps = [metadata.steps.get(letter, Step(1.0)) for letter in axes]
    datasets = []
    for level, factors in enumerate(scales):
        pairs = list(zip(steps, factors, strict=True))
        sizes = [step.size * factor for step, factor in pairs]
        # The first pixel of a level is centred on the pixels that it covers.
        starts = [step.start + step.size * (factor - 1) / 2 for step, factor in pairs]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": sizes}]
        if any(starts):
            transformations.append({"type": "translation", "translation": starts})
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    image = {
        "name": name,
        "axes": [_axis(letter, metadata.steps.get(letter)) for letter in axes],
        "datasets": datasets,
        "type": "mean" if len(scales) > 1 else None,
    }
    content: dict[str, Any] = {
        "version": VERSION,
        "multiscales": [{key: value for key, value in image.items() if value is not None}],
    }
    if metadata.channels:
        content["omero"] = {"channels": [{"label": label} for label in metadata.channels]}
    return {"ome": content}


def _axis(letter: str, step: Step | None) -> dict[str, str]:
    axis = {"name": letter.lower(), "type": TYPES.get(letter, "space")}
    if step is not None and step.unit in UNITS:
        axis["unit"] = UNITS[step.unit]
    return axis

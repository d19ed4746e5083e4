"""CZI, LIF and ND2: pixel sizes, time steps and channels, as the makers' files record them."""

from collections.abc import Mapping, Sequence
from typing import Any

from msdtool.data.metadata.base import Metadata, step_of

MILLISECONDS = 1e-3


def read_czi(content: Mapping[str, Any]) -> Metadata:
    """Return what the metadata of a CZI file says; it has lengths in metres.

    Args:
        content: the XML as pylibCZIrw returns it.
    """
    root = content["ImageDocument"]["Metadata"]
    distances = _listed(_at(root, "Scaling", "Items", "Distance"))
    steps = {item["@Id"]: step_of(1e6 * float(item["Value"]), "µm") for item in distances}
    channels = _listed(_at(root, "Information", "Image", "Dimensions", "Channels", "Channel"))
    names = tuple(str(channel.get("@Name", "")) for channel in channels)
    return Metadata(
        steps={letter: step for letter, step in steps.items() if step is not None},
        channels=names if all(names) else (),
    )


def read_lif(coords: Mapping[str, Sequence[float]]) -> Metadata:
    """Return what an image of a LIF file says.

    Args:
        coords: where pixels are, by the letter of the axis, in metres or seconds.
    """
    steps = {}
    for letter in "XYZT":
        places = coords.get(letter, ())
        if len(places) > 1:
            size, start = float(places[1] - places[0]), float(places[0])
            scale, unit = (1.0, "s") if letter == "T" else (1e6, "µm")
            steps[letter] = step_of(scale * abs(size), unit, scale * start)
    return Metadata(steps={letter: step for letter, step in steps.items() if step is not None})


def read_nd2(file: Any) -> Metadata:
    """Return what an ND2 file says.

    Args:
        file: of the nd2 library.
    """
    channels = file.metadata.channels
    calibrated = channels[0].volume.axesCalibrated
    steps = {
        letter: step_of(size, "µm")
        for letter, size, known in zip("XYZ", file.voxel_size(), calibrated, strict=True)
        if known
    }
    for loop in file.experiment:
        if loop.type == "TimeLoop":
            steps["T"] = step_of(MILLISECONDS * loop.parameters.periodMs, "s")
    return Metadata(
        steps={letter: step for letter, step in steps.items() if step is not None},
        channels=tuple(str(channel.channel.name) for channel in channels),
    )


def _at(content: Any, *keys: str) -> Any:
    """What lies below these keys; None if nothing does."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _listed(found: Any) -> list[Any]:
    """What an XML element has once or several times."""
    return found if isinstance(found, list) else [] if found is None else [found]

"""CZI, as microscopes of Zeiss write it: read plane by plane, mosaics as one image."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.containers.base import Array
from msdtool.data.containers.planes import Planes, check_axes, chosen
from msdtool.data.extras import load_extra
from msdtool.data.metadata import Metadata, microscopes
from msdtool.errors import InputError
from msdtool.specifier_grammar import Location

DTYPES = {"Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4"}
COLOURS = {"Bgr24": "u1", "Bgr48": "u2", "Bgr96Float": "f4"}
INSIDE = "XYSB"
"""Dimensions that are no axis: those of a plane, scenes, and blocks of acquisition."""


def open_czi(location: Location) -> Planes:
    """Open a scene of a CZI file.

    Raises:
        InputError: pylibCZIrw is not installed, there is no such scene, or planes are missing.
    """
    reader = _reader(location.path)
    try:
        scene = chosen(location.path, location.inner, _scenes(reader))
        return _planes(location.path, reader, int(scene))
    except BaseException:
        reader.close()
        raise


def count_scenes(path: Path) -> int:
    """Number of scenes in a CZI file."""
    with closing(_reader(path)) as reader:
        return len(_scenes(reader))


def describe_czi(location: Location, _axes: str) -> Metadata:
    """Return what a CZI file says besides the pixels."""
    with closing(_reader(location.path)) as reader:
        return microscopes.read_czi(reader.metadata)


def _reader(path: Path) -> Any:
    return load_extra("pylibCZIrw.czi", path).CziReader(str(path))


def _scenes(reader: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each scene by its number; files without scenes have one."""
    scenes = reader.scenes_bounding_rectangle_no_pyramid
    scenes = scenes or {0: reader.total_bounding_rectangle_no_pyramid}
    return {str(number): (place.h, place.w) for number, place in scenes.items()}


def _planes(path: Path, reader: Any, scene: int) -> Planes:
    kinds = set(reader.pixel_types.values())
    if len(kinds) > 1 or not kinds <= DTYPES.keys() | COLOURS.keys():
        raise InputError(
            f"{path}: its channels have pixels of the types {', '.join(sorted(kinds))}; export "
            f"them as TIFFs. All need one type of {', '.join([*DTYPES, *COLOURS])}"
        )
    (kind,) = kinds
    box = reader.total_bounding_box_no_pyramid
    lead = {letter: stop for letter, (_, stop) in box.items() if letter not in INSIDE}
    lead = {letter: size for letter, size in lead.items() if size > 1}
    scenes = reader.scenes_bounding_rectangle_no_pyramid
    place = scenes.get(scene, reader.total_bounding_rectangle_no_pyramid)
    sizes = {**lead, "Y": place.h, "X": place.w}
    check_axes(path, sizes)
    _check_complete(path, reader, lead, scene if scenes else None)
    read = partial(reader.read, roi=place, scene=scene if scenes else None)
    if kind in COLOURS:
        return Planes(
            {**sizes, "S": 3}, np.dtype(COLOURS[kind]), _of_colours(read, lead), 3, reader.close
        )
    return Planes(sizes, np.dtype(DTYPES[kind]), _of_grey(read, lead), 2, reader.close)


def _of_grey(read: Callable[..., Array], lead: dict[str, int]) -> Callable[..., Array]:
    return lambda index: read(plane=dict(zip(lead, index, strict=True)))[..., 0]


def _of_colours(read: Callable[..., Array], lead: dict[str, int]) -> Callable[..., Array]:
    return lambda index: read(plane=dict(zip(lead, index, strict=True)))[..., ::-1]  # from BGR


def _check_complete(path: Path, reader: Any, lead: dict[str, int], scene: int | None) -> None:
    """Raise InputError if a plane has no pixels: the library would return zeros."""
    found = set()

    def note(_: int, block: Any) -> bool:
        where = block.coordinate.to_dict()
        if scene is None or where.get("S", scene) == scene:
            found.add(tuple(where.get(letter, 0) for letter in lead))
        return True

    reader.enumerate_subblocks(note)
    expected = int(np.prod(list(lead.values())))
    if len(found) < expected:
        raise InputError(
            f"{path}: holds {len(found)} of {expected} planes; was the acquisition stopped? Export "
            "what is complete"
        )

"""ND2, as microscopes of Nikon write it: read plane by plane."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.data.containers.base import Array
from msdtool.data.containers.planes import Planes, check_axes, chosen
from msdtool.data.extras import load_extra
from msdtool.data.metadata import Metadata, microscopes
from msdtool.errors import InputError
from msdtool.specifier_grammar import Location

POSITION = "P"
IN_FRAME = "CYXS"


def open_nd2(location: Location) -> Planes:
    """Open a position of an ND2 file.

    Raises:
        InputError: nd2 is not installed, there is no such position, or frames are missing.
    """
    file = _open(location.path)
    try:
        return _planes(location, file)
    except BaseException:
        file.close()
        raise


def count_positions(path: Path) -> int:
    """Number of positions of the stage in an ND2 file."""
    with closing(_open(path)) as file:
        return int(file.sizes.get(POSITION, 1))


def describe_nd2(location: Location, _axes: str) -> Metadata:
    """Return what an ND2 file says besides the pixels."""
    with closing(_open(location.path)) as file:
        return microscopes.read_nd2(file)


def _open(path: Path) -> Any:
    return load_extra("nd2", path).ND2File(path)


def _planes(location: Location, file: Any) -> Planes:
    sizes = {letter: int(size) for letter, size in file.sizes.items()}
    loops = {letter: size for letter, size in sizes.items() if letter not in IN_FRAME}
    expected, stored = math.prod(loops.values()), int(file.attributes.sequenceCount)
    if stored < expected:
        raise InputError(
            f"{location.path}: holds {stored} of {expected} frames; was the acquisition stopped? "
            "Export what is complete"
        )
    shape = tuple(size for letter, size in sizes.items() if letter != POSITION)
    positions = {str(number): shape for number in range(sizes.get(POSITION, 1))}
    position = int(chosen(location.path, location.inner, positions))
    of_one = {letter: size for letter, size in sizes.items() if letter != POSITION}
    check_axes(location.path, of_one)

    def read(index: tuple[int, ...]) -> Array:
        where = iter(index)
        place = [position if letter == POSITION else next(where) for letter in loops]
        frame: Array = file.read_frame(int(np.ravel_multi_index(place, tuple(loops.values()))))
        return frame

    per_plane = sum(letter in IN_FRAME for letter in sizes)
    return Planes(of_one, np.dtype(file.dtype), read, per_plane, file.close)

"""The size of pixels, as files state it."""

from typing import NamedTuple

from msdtool.data.readers import metadata
from msdtool.data.specifiers import Location


class Spacing(NamedTuple):
    """The size of pixels along each spatial axis, and its unit."""

    sizes: tuple[float, ...]
    unit: str


def spacing(location: Location, ndim: int) -> Spacing:
    """The size of a file's pixels along the last ``ndim`` of Z, Y, X; if it has none, 1 "pixels".

    Raises:
        InputError: the file cannot be read.
    """
    steps = metadata(location, ndim).steps
    found = [steps.get(letter) for letter in "ZYX"[-ndim:]]
    known = [step for step in found if step is not None and step.unit]
    if len(known) == ndim and len({step.unit for step in known}) == 1:
        return Spacing(tuple(step.size for step in known), str(known[0].unit))
    return Spacing((1.0,) * ndim, "pixels")

"""NRRD: sizes, directions and kinds of axes (https://teem.sourceforge.net/nrrd/format.html)."""

from typing import Any

import numpy as np

from msdtool.data.letters import UNNAMED
from msdtool.data.metadata.base import Metadata, step_of

CHANNELS = ("vector", "list", "point", "normal", "color", "matrix", "covariant-vector")


def axes_of(header: dict[str, Any]) -> str:
    """A letter for each axis, the slowest first."""
    count = int(header["dimension"])
    kinds = [str(kind) for kind in header.get("kinds", ["domain"] * count)]
    space = iter("XYZ")
    letters = ""
    for kind in kinds:
        if kind == "time":
            letters += "T"
        elif kind in ("domain", "space", "???", "none"):
            letters += next(space, UNNAMED)
        else:
            letters += "C"
    return letters[::-1] if len(letters) == count else UNNAMED * count


def read(header: dict[str, Any], axes: str) -> Metadata:
    """Return what a header says.

    Args:
        header: of the pynrrd library.
        axes: the letter of each axis, the slowest first.
    """
    directions = header.get("space directions")
    if directions is not None:
        vectors = [np.ravel(vector) for vector in directions]
        sizes = [float(np.linalg.norm(vector)) for vector in vectors]
    else:
        sizes = [float(size) for size in header.get("spacings", ())]
    units = list(header.get("space units", header.get("units", ())))
    origin = [float(value) for value in np.ravel(header.get("space origin", ()))]
    steps = {}
    for number, (letter, size) in enumerate(zip(reversed(axes), sizes, strict=False)):
        unit = units[number] if number < len(units) else ""
        start = origin[number] if number < len(origin) and letter in "XYZ" else 0.0
        step = step_of(size, str(unit), start)
        if step is not None and letter != "C":
            steps[letter] = step
    return Metadata(steps=steps)

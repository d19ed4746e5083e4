"""What every file format offers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Key = tuple[int | slice, ...]
"""One index or range (of step 1) per axis."""

UNNAMED = "?"

NAMES = {"channel": "C", "time": "T"} | {letter: letter.upper() for letter in "xyzct"}


class Container(Protocol):
    """An array in a file.

    Attributes:
        shape: of the array.
        dtype: of the array in the file.
        axes: a letter per axis, `UNNAMED` for axes that the file does not name.
        opacity: the numbers of those samples along the axis S that are opacity, not colour.
        notes: what the file says about its pixels that is not applied when they are read, such as
            a value that stands for missing pixels.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    opacity: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def read(self, key: Key) -> Array:
        """Read a part, [axes for which the key has a range], in native byte order."""

    def files(self) -> Iterable[Path]:
        """The other files that its pixels lie in."""
        return ()

    def close(self) -> None:
        """Close the file."""


def letters(names: Iterable[str | None], count: int) -> str:
    """Dimension names as one letter each; all `UNNAMED` if their number is wrong."""
    known = [NAMES.get(str(name).lower(), UNNAMED) for name in names]
    return "".join(known) if len(known) == count else UNNAMED * count


def key_shape(key: Key, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the part that a key selects from an array."""
    pairs = zip(key, shape, strict=True)
    return tuple(len(range(size)[part]) for part, size in pairs if isinstance(part, slice))

"""What every kind of file offers."""

from collections.abc import Iterable
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
        dtype: of the array, as the file has it.
        axes: a letter per axis, `UNNAMED` where the file does not name it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str

    def read(self, key: Key) -> Array:
        """Read a part, [axes that the key gives no index for], in the machine's byte order."""

    def close(self) -> None:
        """Close the file."""


def letters(names: Iterable[str | None], count: int) -> str:
    """Dimension names as one letter each."""
    known = [NAMES.get(str(name).lower(), UNNAMED) for name in names]
    return "".join(known) if len(known) == count else UNNAMED * count


def key_shape(key: Key, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what a key takes of an array."""
    pairs = zip(key, shape, strict=True)
    return tuple(len(range(size)[part]) for part, size in pairs if isinstance(part, slice))

"""What every file format offers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from msdtool.errors import InputError
from msdtool.wording import size_text

Array = np.ndarray[Any, np.dtype[Any]]
Key = tuple[int | slice, ...]
"""One index or range (of step 1) per axis."""
MAX_NAMED = 8


class Container(Protocol):
    """An array in a file.

    Attributes:
        shape: of the array.
        dtype: of the array in the file.
        axes: a letter per axis, `UNNAMED` (in `data.letters`) for axes that the file does not name.
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


def key_shape(key: Key, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the part that a key selects from an array."""
    pairs = zip(key, shape, strict=True)
    return tuple(len(range(size)[part]) for part, size in pairs if isinstance(part, slice))


def pick(path: Path, shapes: Mapping[str, Sequence[int] | None]) -> str:
    """Return the name of the only array in a file.

    Args:
        path: the file.
        shapes: the shape of each array by its name; None: unknown.

    Raises:
        InputError: it contains none or several.
    """
    names = list(shapes)
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"{path}: holds no array of numbers with two or more dimensions")
    shown = [
        name if shape is None else f"{name} ({size_text(shape)})" for name, shape in shapes.items()
    ]
    held = ", ".join(shown[:MAX_NAMED]) + (" ..." if len(names) > MAX_NAMED else "")
    raise InputError(
        f"{path}: holds {len(names)} arrays: {held}; select one, such as {path.name}::{names[0]}"
    )

"""Images of microscopes, which libraries read plane by plane."""

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np

from msdtool.data.containers.base import Array, Container, Key, key_shape, pick
from msdtool.data.letters import UNNAMED
from msdtool.errors import InputError

AXES = "TZCYXS"
"""The letters by which microscopes' files know the axes that are known here."""


class Planes(Container):
    """An array of which a library reads one plane at a time.

    Args:
        sizes: of the axes by their letters, of which others than `AXES` may count images, too.
        dtype: of the pixels.
        read_plane: returns the plane at an index per axis that is not one of it.
        per_plane: number of axes of a plane, the last ones.
        close: closes the file.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        dtype: np.dtype[np.generic],
        read_plane: Callable[[tuple[int, ...]], Array],
        per_plane: int,
        close: Callable[[], None],
    ) -> None:
        self.shape, self.dtype = tuple(sizes.values()), dtype.newbyteorder("=")
        self.axes = named(sizes)
        self.lead = len(self.shape) - per_plane
        self.read_plane, self.close_file = read_plane, close

    def read(self, key: Key) -> Array:
        """Read a part; each plane that it intersects is read as a whole."""
        lead, inner = key[: self.lead], key[self.lead :]
        out = np.empty(key_shape(key, self.shape), self.dtype)
        ranges = [
            range(size)[part] if isinstance(part, slice) else (part,)
            for part, size in zip(lead, self.shape, strict=False)
        ]
        planes = out.reshape(-1, *key_shape(inner, self.shape[self.lead :]))
        for place, index in enumerate(product(*ranges)):
            planes[place] = self.read_plane(index)[inner]
        return out

    def close(self) -> None:
        """Close the file."""
        self.close_file()


def named(sizes: Mapping[str, int]) -> str:
    """The letters of axes: the first that has no known one counts images, as time does."""
    others = [letter for letter in sizes if letter not in AXES]
    as_time = others[0] if others and "T" not in sizes else ""
    return "".join(
        letter if letter in AXES else "T" if letter == as_time else UNNAMED for letter in sizes
    )


def check_axes(path: Path, sizes: Mapping[str, int]) -> None:
    """Check that it is known what each axis is.

    Raises:
        InputError: it is not.
    """
    if UNNAMED in named(sizes):
        shown = ", ".join(f"{letter} {size}" for letter, size in sizes.items())
        raise InputError(
            f"{path}: has axes other than {', '.join(AXES)}: {shown}; export a part of it as TIFF"
        )


def chosen(path: Path, inner: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of the image that ``inner`` names, or of the only one.

    Raises:
        InputError: there is no such image, or several and none is named.
    """
    name = inner.strip("/")
    if not name:
        return pick(path, shapes)
    if name not in shapes:
        raise InputError(f"{path}: holds no image {name}; it holds {', '.join(shapes)}")
    return name

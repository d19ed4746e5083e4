"""Symmetries of images and volumes, and how to undo them.

Images have eight symmetries: any subset of axes flipped, with or without transposition. Volumes
also have eight, any subset of axes flipped; transposition would exchange axes of different
resolution.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from torch import Tensor


class Symmetry(NamedTuple):
    """A symmetry of images [C, *space], and its inverse."""

    apply: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor], Tensor]


def symmetries(ndim: int) -> list[Symmetry]:
    """Return the eight symmetries of images (``ndim`` 2) or volumes (3), the identity first."""
    flips = [
        [axis for axis, chosen in zip(range(-ndim, 0), choice, strict=True) if chosen]
        for choice in product((False, True), repeat=ndim)
    ]
    return [
        _symmetry(axes, turn)
        for turn in ((False, True) if ndim == 2 else (False,))
        for axes in flips
    ]


def _symmetry(axes: list[int], transposed: bool) -> Symmetry:
    def apply(image: Tensor) -> Tensor:
        flipped = image.flip(axes)
        return flipped.transpose(-1, -2) if transposed else flipped

    def undo(image: Tensor) -> Tensor:
        return (image.transpose(-1, -2) if transposed else image).flip(axes)

    return Symmetry(apply, undo)

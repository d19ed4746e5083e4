"""Turned and mirrored images, and their predictions brought back.

Images have eight symmetries: four mirror images, each as it is and transposed. Volumes are mirrored
along each axis, which are eight as well; turning them would exchange axes of different sizes and
resolutions.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from torch import Tensor


class Symmetry(NamedTuple):
    """One way to look at images [C, *space], and the way back."""

    apply: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor], Tensor]


def symmetries(ndim: int) -> list[Symmetry]:
    """The eight symmetries of images (``ndim`` 2) or volumes (``ndim`` 3), the identity first."""
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

"""Windows of an image or volume: random, around a pixel, on a grid."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

Window = tuple[slice, ...]
"""One slice per spatial axis, with start and stop inside the image."""

BLOCK_PIXELS = 2**24
"""Pixels of the blocks in which whole images are read, so that a volume need not fit in memory."""


class Patch(NamedTuple):
    """A window of a grid.

    Attributes:
        window: what the network sees, in the image's coordinates.
        core: the pixels of it that count, in the window's coordinates.
    """

    window: Window
    core: Window


def random_window(space: Sequence[int], size: Sequence[int], rng: np.random.Generator) -> Window:
    """Draw a window of ``size`` in an image of size ``space``, uniformly.

    Raises:
        ValueError: the image is smaller than the window.
    """
    _check_fits(space, size)
    corner = [int(rng.integers(0, have - want + 1)) for have, want in zip(space, size, strict=True)]
    return _window(corner, size)


def window_around(
    point: Sequence[int], space: Sequence[int], size: Sequence[int], rng: np.random.Generator
) -> Window:
    """Draw a window of ``size`` that lies inside the image and contains ``point``, uniformly.

    Raises:
        ValueError: the image is smaller than the window.
    """
    _check_fits(space, size)
    corner = []
    for at, have, want in zip(point, space, size, strict=True):
        lowest, highest = max(0, at - want + 1), min(at, have - want)
        corner.append(int(rng.integers(lowest, highest + 1)))
    return _window(corner, size)


def _check_fits(space: Sequence[int], size: Sequence[int]) -> None:
    if any(have < want for have, want in zip(space, size, strict=True)):
        raise ValueError(f"a window of {tuple(size)} does not fit in an image of {tuple(space)}")


def _window(corner: Sequence[int], size: Sequence[int]) -> Window:
    return tuple(slice(start, start + want) for start, want in zip(corner, size, strict=True))


def whole(space: Sequence[int]) -> Window:
    """The window that covers the whole image."""
    return tuple(slice(0, length) for length in space)


def inside(outer: Window, inner: Window) -> Window:
    """The window ``inner`` in coordinates of ``outer``, in coordinates of the image."""
    return tuple(
        slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer, inner, strict=True)
    )


def enlarged(window: Window, scale: int) -> Window:
    """The same window of an image that is ``scale`` times as large."""
    return tuple(slice(scale * part.start, scale * part.stop) for part in window)


def extent(window: Window) -> tuple[int, ...]:
    """The size of a window."""
    return tuple(part.stop - part.start for part in window)


def grid(space: Sequence[int], size: Sequence[int], overlap: int) -> list[Patch]:
    """Cover an image with windows of ``size``; neighbours share at least ``overlap`` pixels.

    The cores meet in the middle of the overlap of two neighbours, so that each pixel counts in
    exactly one patch and has at least ``overlap // 2`` pixels of context, except at the image's
    border. Along an axis that is shorter than the window, the window covers all of it.
    """
    axes = [_grid_axis(have, want, overlap) for have, want in zip(space, size, strict=True)]
    return [
        Patch(tuple(window for window, _ in parts), tuple(core for _, core in parts))
        for parts in itertools.product(*axes)
    ]


def _grid_axis(length: int, size: int, overlap: int) -> list[tuple[slice, slice]]:
    size = min(size, length)
    steps = 0 if length == size else math.ceil((length - size) / (size - overlap))
    starts = [(length - size) * step // max(steps, 1) for step in range(steps + 1)]
    edges = [0, *((a + size + b) // 2 for a, b in itertools.pairwise(starts)), length]
    return [
        (slice(start, start + size), slice(first - start, last - start))
        for start, (first, last) in zip(starts, itertools.pairwise(edges), strict=True)
    ]


def blocks(space: Sequence[int], max_pixels: int) -> Iterator[Window]:
    """Cut an image along its first axis into blocks of at most ``max_pixels``, or single slices."""
    thickness = max(1, max_pixels // max(1, math.prod(space[1:])))
    for start in range(0, space[0], thickness):
        yield (slice(start, min(start + thickness, space[0])), *whole(space[1:]))

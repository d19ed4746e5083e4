"""Splitting pairs into those to train on and those to validate on."""

import itertools
from collections.abc import Sequence

import numpy as np

from msdtool.data.interfaces import Pairs
from msdtool.data.patches import extent, grid, whole
from msdtool.data.subsets import Part, SubsetOf
from msdtool.errors import InputError

SliceRange = tuple[int, int]
"""The first slice and the one after the last, counted from 0 in each volume."""


def hold_out_fraction(pairs: Pairs, fraction: float, seed: int) -> tuple[SubsetOf, SubsetOf]:
    """Split at random; at least one image is held out, and at least one is not.

    Returns:
        What remains, and what is held out.

    Raises:
        InputError: there is only one image.
    """
    images = _images(pairs)
    if len(images) < 2:
        raise InputError(
            f"data.validation.fraction needs at least 2 training images, found {len(images)}; "
            "for a single volume, hold out data.validation.slices"
        )
    count = min(max(round(fraction * len(images)), 1), len(images) - 1)
    order = np.random.default_rng([seed, len(images)]).permutation(len(images))
    return _divide(pairs, {images[place] for place in order[:count]})


def use_fraction(pairs: Pairs, fraction: float, seed: int) -> SubsetOf:
    """Choose images at random, at least one; smaller fractions are subsets of larger ones."""
    images = _images(pairs)
    count = max(round(fraction * len(images)), 1)
    order = np.random.default_rng([seed, len(images)]).permutation(len(images))
    return _divide(pairs, {images[place] for place in order[:count]})[1]


def hold_out_slices(
    pairs: Pairs, ranges: Sequence[SliceRange], ndim: int
) -> tuple[SubsetOf, SubsetOf]:
    """Hold out ranges of slices of each volume.

    Args:
        pairs: of slices, or with ``ndim`` 3 of whole volumes.
        ranges: of the slices to hold out.
        ndim: number of spatial axes.

    Returns:
        What remains, and what is held out.

    Raises:
        InputError: a volume has fewer slices, or none is left to train on.
    """
    return _cut_volumes(pairs, ranges) if ndim == 3 else _choose_slices(pairs, ranges)


def _images(pairs: Pairs) -> list[int]:
    return sorted({pairs.image(index) for index in range(len(pairs))})


def _divide(pairs: Pairs, held_out: set[int]) -> tuple[SubsetOf, SubsetOf]:
    """The pairs that do not show an image of ``held_out``, and those that do."""
    indices = range(len(pairs))
    return (
        SubsetOf(pairs, [index for index in indices if pairs.image(index) not in held_out]),
        SubsetOf(pairs, [index for index in indices if pairs.image(index) in held_out]),
    )


def _choose_slices(pairs: Pairs, ranges: Sequence[SliceRange]) -> tuple[SubsetOf, SubsetOf]:
    stack = next(iter(pairs.stacks().values()))
    held_out = set()
    for volume in {stack.volume(image) for image in _images(pairs)}:
        _check_ranges(ranges, len(volume), f"the volume of {stack.name(volume.start)}")
        held_out |= {volume[place] for start, stop in ranges for place in range(start, stop)}
    return _divide(pairs, held_out)


def _cut_volumes(pairs: Pairs, ranges: Sequence[SliceRange]) -> tuple[SubsetOf, SubsetOf]:
    kept, held_out = [], []
    for index in range(len(pairs)):
        depth, *plane = pairs.space(index)
        _check_ranges(ranges, depth, pairs.name(index))
        edges = [0, *(edge for bounds in sorted(ranges) for edge in bounds), depth]
        spans = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
        parts = [Part(index, (span, *whole(plane))) for span in spans]
        kept += [part for part in parts[::2] if part.window and extent(part.window)[0]]
        held_out += parts[1::2]
    return SubsetOf(pairs, kept), SubsetOf(pairs, held_out)


def _check_ranges(ranges: Sequence[SliceRange], num_slices: int, name: str) -> None:
    last = max(stop for _, stop in ranges)
    if last > num_slices:
        raise InputError(
            f"{name} has {num_slices} slices; a range of data.validation.slices ends at {last}"
        )
    if sum(stop - start for start, stop in ranges) == num_slices:
        raise InputError(
            f"{name}: data.validation.slices holds out all {num_slices} slices; none is left "
            "to train on"
        )


def patchwise(pairs: Pairs, size: Sequence[int], overlap: int) -> SubsetOf:
    """Cover each pair with a grid of patches; each pixel counts in one of them. See `grid`."""
    return SubsetOf(
        pairs,
        [
            Part(index, patch.window, patch.core)
            for index in range(len(pairs))
            for patch in grid(pairs.space(index), size, overlap)
        ],
    )

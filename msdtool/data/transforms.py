"""Random symmetries of a sample."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from msdtool.data.interfaces import Sample
from msdtool.data.slabs import slices_of


def random_symmetry(
    sample: Sample,
    rng: np.random.Generator,
    keep_shape: bool,
    *,
    slab: int = 0,
    in_plane: bool = False,
) -> Sample:
    """Apply a random symmetry of a sample's grid to all of its images.

    Images have the 8 symmetries of the square. A slab has 16, since its slices can also be
    reversed. Volumes have the 48 of the cube: the 16 of a slab, combined with three choices of the
    axis that counts the slices.

    Args:
        sample: the images to transform.
        rng: source of randomness; the number of draws does not depend on the shape.
        keep_shape: leave out quarter turns of images that are not square, and permutations of
            the axes of volumes that are not cubes.
        slab: number of slices above the central one of the input.
        in_plane: map the slices of a volume to slices, for data whose first axis is special.
    """
    quarter_turns = int(rng.integers(4))
    flip = bool(rng.integers(2))
    space = sample.input.shape[1:]
    if keep_shape and space[-2] != space[-1]:
        quarter_turns -= quarter_turns % 2

    def turn(image: Tensor) -> Tensor:
        image = torch.rot90(image, quarter_turns, (-2, -1))
        return image.flip(-1) if flip else image

    if len(space) == 3:
        sample = _map_images(sample, _volume_symmetry(sample, rng, keep_shape, in_plane))
    elif slab and rng.integers(2):
        sample = sample._replace(input=_upside_down(sample.input, slab))
    return _map_images(sample, turn)


def _volume_symmetry(
    sample: Sample, rng: np.random.Generator, keep_shape: bool, in_plane: bool
) -> Callable[[Tensor], Tensor]:
    """Roll the axes of a volume and reverse the first one."""
    reverse, roll = bool(rng.integers(2)), int(rng.integers(3))
    is_cube = len(set(sample.input.shape[1:])) == 1
    if in_plane or (keep_shape and not is_cube):
        roll = 0

    def move(image: Tensor) -> Tensor:
        axes = [1 + (axis + roll) % 3 for axis in range(3)]
        image = image.permute(0, *axes)
        return image.flip(1) if reverse else image

    return move


def _upside_down(input: Tensor, slab: int) -> Tensor:
    """Reverse the slices of a slab, but not the channels of each slice."""
    return slices_of(input, slab).flip(0).flatten(0, 1)


def _map_images(sample: Sample, function: Callable[[Tensor], Tensor]) -> Sample:
    return sample._replace(
        input=function(sample.input),
        target=function(sample.target),
        mask=None if sample.mask is None else function(sample.mask),
    )

"""Random crops and symmetries of a sample, each a function of a random generator."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from msdtool.data.datasets import Sample


def _map_images(sample: Sample, function: Callable[[Tensor], Tensor]) -> Sample:
    return Sample(
        function(sample.input),
        function(sample.target),
        None if sample.mask is None else function(sample.mask),
        sample.indices,
    )


def random_crop(sample: Sample, size: Sequence[int], rng: np.random.Generator) -> Sample:
    """Cut the same random window of ``size`` out of a sample's images.

    Raises:
        ValueError: the images are smaller than the window.
    """
    space = sample.input.shape[1:]
    if any(have < want for have, want in zip(space, size, strict=True)):
        raise ValueError(f"a crop of {tuple(size)} does not fit in an image of {tuple(space)}")
    corner = [int(rng.integers(0, have - want + 1)) for have, want in zip(space, size, strict=True)]
    window = tuple(slice(start, start + want) for start, want in zip(corner, size, strict=True))
    return _map_images(sample, lambda image: image[(slice(None), *window)])


def random_symmetry(sample: Sample, rng: np.random.Generator, keep_shape: bool) -> Sample:
    """Turn and flip a sample in its last two axes by one of the eight symmetries of the square.

    Args:
        sample: its images.
        rng: two numbers are drawn from it, whatever the shape.
        keep_shape: leave out the quarter turns of images that are not square.
    """
    quarter_turns = int(rng.integers(4))
    flip = bool(rng.integers(2))
    height, width = sample.input.shape[-2:]
    if keep_shape and height != width:
        quarter_turns -= quarter_turns % 2

    def turn(image: Tensor) -> Tensor:
        image = torch.rot90(image, quarter_turns, (-2, -1))
        return image.flip(-1) if flip else image

    return _map_images(sample, turn)

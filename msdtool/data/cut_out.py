"""Random holes in inputs, so that a network uses more context than the nearest pixels."""

from dataclasses import dataclass

import numpy as np
import torch

from msdtool.data.augment import Range
from msdtool.data.geometry import channel_means
from msdtool.data.interfaces import Sample
from msdtool.data.pairing import masked


@dataclass(frozen=True)
class CutOut:
    """Replaces a box of each input by its mean (DeVries & Taylor, arXiv 1708.04552).

    What the box hides does not count: a network that had to tell what it cannot see would learn to
    invent. All channels, and all slices of a slab, have the same hole.

    Attributes:
        size: range of the box's size, as a fraction of the sample's along each axis, 0 to 1.
    """

    size: Range

    def __call__(self, sample: Sample, rng: np.random.Generator, scale: int = 1) -> Sample:
        """Return the sample with a hole at a random place inside it.

        Args:
            sample: its mask is the target's.
            rng: source of randomness.
            scale: size of the target relative to the input.
        """
        fraction = rng.uniform(*self.size)
        hole, in_target = [], []
        for length in sample.input.shape[1:]:
            size = round(fraction * length)
            start = int(rng.integers(0, length - size + 1))
            hole.append(slice(start, start + size))
            in_target.append(slice(scale * start, scale * (start + size)))
        input = sample.input.clone()
        mean = channel_means(sample.input.flatten(1)).reshape(-1, *(1,) * len(hole))
        input[(slice(None), *hole)] = mean
        visible = torch.ones(1, *sample.target.shape[1:], dtype=torch.bool)
        visible[(slice(None), *in_target)] = False
        return masked(sample._replace(input=input), visible)

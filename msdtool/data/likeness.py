"""Whether noisy repeats are paired: two images of the same object have more in common than others.

Their noise is independent, so what correlates is the object.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msdtool.data.interfaces import Stack
from msdtool.data.patches import blocks

MAX_IMAGES = 8
MAX_PIXELS = 2**20
"""Pixels that are compared of an image, in its middle."""
ALIKE = 0.5
"""Different images whose correlation is larger, such as slices of a volume, tell nothing."""
ERRORS = 2.0
"""Standard errors by which a correlation must be larger to be called so."""


class Likeness(NamedTuple):
    """Mean correlations of images of two stacks, of all channels together.

    Attributes:
        own: of the images of each pair.
        others: of images of different pairs.
        error: standard error of their difference, if no image has anything in common with another.
    """

    own: float
    others: float
    error: float

    @property
    def is_paired(self) -> bool:
        """Whether the images of a pair are more alike than others, as far as that can be told."""
        return self.others > ALIKE or self.own > self.others + ERRORS * self.error


def likeness(first: Stack, second: Stack, images: Sequence[int]) -> Likeness | None:
    """Compare some pairs with each other.

    Args:
        first: a stack.
        second: one of as many images, paired in order.
        images: pairs to choose from; a few, far from each other, are read.

    Returns:
        None if there are not two pairs of the same size that are not constant.

    Raises:
        InputError: a file cannot be read.
    """
    step = max(1, len(images) // MAX_IMAGES)
    chosen = [images[place] for place in range(0, len(images), step)][:MAX_IMAGES]
    sizes = [first.space(image) for image in chosen]
    chosen = [image for image in chosen if first.space(image) == max(sizes, key=sizes.count)]
    pairs = [(_pixels(first, image), _pixels(second, image)) for image in chosen]
    pairs = [(a, b) for a, b in pairs if a.shape == b.shape and a.any() and b.any()]
    if len(pairs) < 2:
        return None
    found = np.array([[float(a @ b) for _, b in pairs] for a, _ in pairs])
    count = len(pairs)
    own = float(found.trace()) / count
    others = (float(found.sum()) - count * own) / (count * (count - 1))
    return Likeness(own, others, 1 / math.sqrt(len(pairs[0][0]) * (count - 1)))


def _pixels(stack: Stack, image: int) -> NDArray[np.float64]:
    """The middle of an image as a vector of mean 0 and length 1; zeros if it is constant."""
    windows = list(blocks(stack.space(image), MAX_PIXELS))
    values = stack.read(image, windows[len(windows) // 2]).numpy().astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    values -= values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
    length = float(np.linalg.norm(values))
    flat: NDArray[np.float64] = values.reshape(-1) / (length or 1.0)
    return flat

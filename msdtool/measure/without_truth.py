"""How good results are where every target is noisy: scores that need no clean image.

Both are means over images, and the larger the better.
"""

import math
from collections.abc import Container
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from msdtool.measure.rings import Array, RingCorrelation

EDGES = 0.1
"""Fraction of the pixels that count as edges."""
LEAST = 1e-6
"""The least change of flat pixels, as a fraction of that of edges: a score is finite."""


class NoisyScores:
    """Scores of results: "edges" and, of results from two halves of the data, "frc".

    Args:
        halves: the images of which there are such results; empty for none.

    Attributes:
        values: of each score, those of the images that it could be computed of.
    """

    def __init__(self, halves: Container[int] = ()) -> None:
        self.halves = halves
        self.values: dict[str, list[float]] = {"frc": [], "edges": []} if halves else {"edges": []}

    def update(self, result: Tensor, other: Tensor | None) -> None:
        """Add the result [C, *space] of an image, and the one from the other half of its data.

        All pixels count: those that a mask leaves out of a loss are no less part of a result.
        """
        found = {"edges": edge_contrast(result)}
        if other is not None:
            found["frc"] = agreement(result, other)
        for name, value in found.items():
            if not math.isnan(value):
                self.values[name].append(value)

    def add(self, other: "NoisyScores") -> None:
        """Add the images of another."""
        for name, values in other.values.items():
            self.values[name] += values

    def compute(self) -> dict[str, float]:
        """Return the mean of each score; NaN if no image has it."""
        # fsum is the same in any order, that is for any number of processes.
        return {
            name: math.fsum(values) / len(values) if values else math.nan
            for name, values in self.values.items()
        }


def agreement(first: Tensor, second: Tensor) -> float:
    """Mean Fourier ring correlation of results from two halves of the data.

    The noise of the halves is independent, so that what results keep of it lowers the correlation;
    what a network makes up of nothing but its training does not, nor does a blur, which weakens
    rings without changing their correlation.

    Args:
        first, second: [C, *space]; channels are correlated one by one, and rings add them up.

    Returns:
        The mean over all rings up to the Nyquist frequency, -1 to 1; 0 for a constant result, NaN
        for one of less than 8 pixels along an axis.
    """
    try:
        rings = RingCorrelation(first.shape[1:])
    except ValueError:
        return math.nan
    for pair in zip(_arrays(first), _arrays(second), strict=True):
        with suppress(ValueError):  # a constant image has nothing in any ring
            rings.add(*pair)
    return float(rings.values.mean())


def edge_contrast(image: Tensor) -> float:
    """How much more an image changes at its edges than elsewhere.

    It is the score of Noise2Inverse360 (github.com/AISDC/Noise2Inverse360, `laplacian_score_batch`
    in denoise/eval.py): the mean magnitude of the Laplacian over the tenth of the pixels where it
    is largest, divided by its mean over the others. Other than there, pixels at the border do not
    count, and images with few edges are not scored by another formula.

    Args:
        image: [C, *space].

    Returns:
        The score, 1 to 1e6; 0 for a constant image, NaN for one of less than 3 pixels along an
        axis.
    """
    if min(image.shape[1:]) < 3:
        return math.nan
    changes = np.sort(np.abs(np.concatenate([_laplacian(one).ravel() for one in _arrays(image)])))
    if not changes[-1]:
        return 0.0
    first = changes.size - math.ceil(EDGES * changes.size)
    edges, flat = changes[first:].mean(), changes[:first].mean() if first else 0.0
    return float(edges / max(flat, LEAST * edges))


def _arrays(image: Tensor) -> list[Array]:
    return list(image.to("cpu", torch.float64).numpy())


def _laplacian(image: Array) -> Array:
    """The sum of second differences along all axes, without the border."""
    inside = [slice(1, -1)] * image.ndim
    total = np.zeros([size - 2 for size in image.shape])
    for axis in range(image.ndim):
        for part, weight in ((slice(None, -2), 1), (slice(1, -1), -2), (slice(2, None), 1)):
            total += weight * image[(*inside[:axis], part, *inside[axis + 1 :])]
    return total

"""Whether probabilities mean what they say: how often labels of each probability are right."""

from typing import Any

import torch
from torch import Tensor

from msdtool.data import IGNORED
from msdtool.plain_data import fits, shown

BINS = 15
"""As many as Guo et al. use."""


class Reliability:
    """Confidence and accuracy of pixels, in bins of equal width by confidence.

    The confidence of a pixel is the probability of the label that it is given. Where a bin's mean
    confidence is above its accuracy, the network is too sure (Guo et al., On Calibration of Modern
    Neural Networks, ICML 2017).

    Attributes:
        sums: by bin, the number of pixels, those that are right, and the sum of the confidence,
            [3, `BINS`] float64.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(3, BINS, dtype=torch.float64)

    def update(self, scores: Tensor, indices: Tensor) -> None:
        """Add scores [1, K, *space] of an image and its class indices [1, 1, *space]."""
        counts = indices[:, 0] != IGNORED
        confidence, label = (values[counts] for values in scores.softmax(1).max(1))
        confidence = confidence.double().clamp(max=1)
        # A bin holds its upper bound, not its lower one, as in the paper.
        bins = (torch.ceil(confidence * BINS) - 1).clamp(min=0).long()
        right = (label == indices[:, 0][counts]).double()
        for row, weights in enumerate((torch.ones_like(right), right, confidence)):
            self.sums[row] += torch.bincount(bins, weights, BINS).cpu()

    def add(self, other: "Reliability") -> None:
        """Add the pixels of another."""
        self.sums += other.sums

    def state(self) -> list[Any]:
        """Return the sums, as plain data."""
        rows: list[Any] = self.sums.tolist()
        return rows

    def load_state(self, state: Any, pixels: int) -> None:
        """Replace the sums, which are of so many pixels.

        Raises:
            ValueError: they are not.
        """
        is_table = fits(state, list[list[float]]) and [len(row) for row in state] == [BINS] * 3
        if not is_table:
            raise ValueError(f"{shown(state)}; expected 3 rows of {BINS} sums")
        sums = torch.tensor(state, dtype=torch.float64)
        if not ((sums >= 0).all() and (sums[1:] <= sums[0]).all() and sums[0].sum() == pixels):
            raise ValueError(f"{shown(state)}; expected sums over {pixels} pixels")
        self.sums = sums

    def to_dict(self) -> dict[str, Any]:
        """Return the curve and its error, as plain data.

        Returns:
            "expected_calibration_error" (ibid., eq. 3): the mean over the pixels of the distance of
            accuracy and confidence in their bin; "confidence" and "accuracy" of each bin, NaN for
            an empty one; "pixels" in each bin.
        """
        pixels, right, confidence = self.sums
        distance = (right - confidence).abs().sum() / pixels.sum()
        return {
            "expected_calibration_error": float(distance),
            "confidence": (confidence / pixels).tolist(),
            "accuracy": (right / pixels).tolist(),
            "pixels": pixels.long().tolist(),
        }

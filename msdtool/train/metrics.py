"""How good outputs are, measured by torchmetrics.

A regression's metrics are means over images; a segmentation's come from the pixel counts of all
images together, so that a label absent from some images does no harm.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.functional.image import peak_signal_noise_ratio

from msdtool.config import SSIM_WINDOW
from msdtool.data import IGNORED
from msdtool.train.losses import masked_mean
from msdtool.train.similarity import ssim_image

Values = dict[str, Any]


class Metrics(Protocol):
    """Takes in one image at a time."""

    def update(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Values:
        """Take in a batch of one image and return that image's own values."""

    def add(self, other: "Metrics") -> None:
        """Take in what another of the same kind has taken in."""

    def compute(self) -> Values:
        """Return the values over all images."""

    def state(self) -> list[Any]:
        """What was taken in, as plain data."""

    def load_state(self, state: list[Any]) -> None:
        """Take in what `state` returned, instead of what was taken in before."""


class RegressionMetrics:
    """MSE, MAE, PSNR and SSIM.

    Args:
        data_range: value range that PSNR and SSIM refer to.
    """

    NAMES = ("mse", "mae", "psnr", "ssim")

    def __init__(self, data_range: float) -> None:
        self.data_range = data_range
        self.rows: list[Values] = []

    def update(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Values:
        """Take in an image [1, C, *space], its target and mask [1, 1, *space].

        SSIM is NaN for images smaller than its window. An image of which the mask leaves nothing
        has no values, all are NaN, and no part in the means.
        """
        if mask is not None and not mask.any():
            return dict.fromkeys(self.NAMES, math.nan)
        output = output.to(target.dtype)
        difference = output - target
        ssim = math.nan
        if min(target.shape[2:]) >= SSIM_WINDOW:
            ssim = float(masked_mean(ssim_image(output, target, self.data_range), mask))
        chosen = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
        chosen = chosen.expand_as(target)
        row = {
            "mse": float(masked_mean(difference.square(), mask)),
            "mae": float(masked_mean(difference.abs(), mask)),
            "psnr": float(
                peak_signal_noise_ratio(output[chosen], target[chosen], data_range=self.data_range)
            ),
            "ssim": ssim,
        }
        self.rows.append(row)
        return row

    def add(self, other: Metrics) -> None:
        """Take in the images of another."""
        assert isinstance(other, RegressionMetrics)
        self.rows += other.rows

    def state(self) -> list[Any]:
        """The values of each image."""
        return self.rows

    def load_state(self, state: list[Any]) -> None:
        """Take on the values of each image."""
        self.rows = state

    def compute(self) -> Values:
        """Return the mean of each metric over the images, and the data range used."""
        count = len(self.rows)
        means = {
            name: math.fsum(row[name] for row in self.rows) / count if count else math.nan
            for name in self.NAMES
        }
        return {**means, "data_range": self.data_range}


class SegmentationMetrics:
    """Accuracy, and intersection over union and Dice coefficient per label.

    Args:
        labels: the label values, in the order of the output channels.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels = list(labels)
        self.confusion = torch.zeros(len(labels), len(labels), dtype=torch.int64)

    def update(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Values:
        """Take in scores [1, K, *space] and class indices [1, 1, *space]."""
        indices = target[:, 0]
        if mask is not None:
            indices = torch.where(mask[:, 0], indices, IGNORED)
        confusion = multiclass_confusion_matrix(
            output.argmax(dim=1), indices, len(self.labels), ignore_index=IGNORED
        ).cpu()
        self.confusion += confusion
        return self._values(confusion)

    def add(self, other: Metrics) -> None:
        """Take in the pixels of another."""
        assert isinstance(other, SegmentationMetrics)
        self.confusion += other.confusion

    def state(self) -> list[Any]:
        """The confusion matrix."""
        rows: list[Any] = self.confusion.tolist()
        return rows

    def load_state(self, state: list[Any]) -> None:
        """Take on a confusion matrix."""
        self.confusion = torch.tensor(state, dtype=torch.int64)

    def compute(self) -> Values:
        """Return the metrics; NaN for a label that neither targets nor outputs hold."""
        return self._values(self.confusion)

    def _values(self, confusion: Tensor) -> Values:
        counts = confusion.double()
        hits, in_target, in_output = counts.diagonal(), counts.sum(1), counts.sum(0)
        iou = hits / (in_target + in_output - hits)
        dice = 2 * hits / (in_target + in_output)
        return {
            "accuracy": float(hits.sum() / counts.sum()),
            "mean_iou": float(iou.nanmean()),
            "mean_dice": float(dice.nanmean()),
            "iou": dict(zip(map(str, self.labels), iou.tolist(), strict=True)),
            "dice": dict(zip(map(str, self.labels), dice.tolist(), strict=True)),
        }

"""How close outputs are to their targets.

Metrics of a regression are means over the images. Metrics of a segmentation come from the pixel
counts of all images together, so that a label may be absent from some of them.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from msdtool.config import SSIM_WINDOW
from msdtool.data import IGNORED
from msdtool.measure.masking import masked_mean
from msdtool.measure.ssim import inside, mean_ssim
from msdtool.plain_data import fits, shown

Values = dict[str, Any]
MAX_PIXELS = 2**53
"""Largest number of pixels: a float still holds each one below."""


class Metrics(Protocol):
    """Accumulates the metrics of one image at a time."""

    def update(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Values:
        """Add a batch of one image and return the values of this image alone."""

    def add(self, other: "Metrics") -> None:
        """Add all images of another accumulator of the same kind."""

    def compute(self) -> Values:
        """Return the values over all images."""

    def state(self) -> list[Any]:
        """Return what was accumulated, as plain data."""

    def load_state(self, state: list[Any]) -> None:
        """Replace what was accumulated by a result of `state`.

        Raises:
            ValueError: it is not one.
        """


def build_metrics(labels: Sequence[int], data_range: float, *, bounds: bool = False) -> Metrics:
    """Return the metrics of a segmentation if there are labels, else those of a regression.

    Args:
        labels: the label values, in the order of the output channels; empty for a regression.
        data_range: value range that PSNR and SSIM of a regression refer to.
        bounds: outputs of a regression have bounds behind them.
    """
    if labels:
        return SegmentationMetrics(labels)
    return IntervalMetrics(data_range) if bounds else RegressionMetrics(data_range)


class RegressionMetrics:
    """MSE, MAE, PSNR and SSIM.

    Args:
        data_range: value range that PSNR and SSIM refer to.
    """

    NAMES: tuple[str, ...] = ("mse", "mae", "psnr", "ssim")

    def __init__(self, data_range: float) -> None:
        self.data_range = data_range
        self.rows: list[Values] = []

    def update(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Values:
        """Add an image [1, C, *space], its target and mask [1, 1, *space]; return its values.

        Computed in float64. SSIM is NaN for images smaller than its window, and if no pixel counts
        that is at least 5 from the border; such an image does not count in the mean of SSIM. If the
        mask leaves nothing of an image, all of its values are NaN, and it does not count in any.
        """
        if mask is not None and not mask.any():
            return dict.fromkeys(self.NAMES, math.nan)
        difference = output.double() - target.double()
        ssim = math.nan
        if min(target.shape[2:]) >= SSIM_WINDOW and (mask is None or inside(mask).any()):
            ssim = float(mean_ssim(output, target, self.data_range, mask))
        counted = difference if mask is None else difference[mask.expand_as(target)]
        row = {
            "mse": float(masked_mean(difference.square(), mask)),
            "mae": float(masked_mean(difference.abs(), mask)),
            "psnr": float(psnr(counted, self.data_range)),
            "ssim": ssim,
        }
        self.rows.append(row)
        return row

    def add(self, other: Metrics) -> None:
        """Add the images of another."""
        assert isinstance(other, RegressionMetrics)
        self.rows += other.rows

    def state(self) -> list[Any]:
        """Return the values of each image."""
        return self.rows

    def load_state(self, state: list[Any]) -> None:
        """Replace the values of each image; raise ValueError if these are none."""
        names = set(self.NAMES)
        if not fits(state, list[dict[str, float]]) or any(row.keys() != names for row in state):
            raise ValueError(f"{shown(state)}; expected {', '.join(self.NAMES)} of each image")
        self.rows = state

    def compute(self) -> Values:
        """Return the mean of each metric over the images, and the data range used.

        The mean of SSIM is over the images that have one.
        """
        means = {name: _mean([row[name] for row in self.rows]) for name in self.NAMES}
        means["ssim"] = _mean([row["ssim"] for row in self.rows if not math.isnan(row["ssim"])])
        return {**means, "data_range": self.data_range}


class IntervalMetrics(RegressionMetrics):
    """Metrics of results, and of the intervals between the bounds that follow them.

    "coverage" is the fraction of the target values that lie in their interval, "width" the mean
    width of the intervals, 0 where the bounds cross.
    """

    NAMES = (*RegressionMetrics.NAMES, "coverage", "width")

    def update(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Values:
        """Add an image: results, lower and upper bounds [1, 3 * C, *space], target and mask."""
        result, lower, upper = output.chunk(3, 1)
        row = super().update(result, target, mask)
        if self.rows and row is self.rows[-1]:
            inside = ((lower <= target) & (target <= upper)).double()
            row["coverage"] = float(masked_mean(inside, mask))
            row["width"] = float(masked_mean((upper - lower).double().clamp(min=0), mask))
        return row


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


class SegmentationMetrics:
    """Accuracy; intersection over union, Dice coefficient, precision and recall per label.

    Args:
        labels: the label values, in the order of the output channels.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels = list(labels)
        self.confusion = torch.zeros(len(labels), len(labels), dtype=torch.int64)

    def update(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Values:
        """Add scores [1, K, *space] of an image and its class indices [1, 1, *space].

        The values include "pixels", the `label_counts` of each label.
        """
        indices = counted(target, mask)[:, 0]
        confusion = confusion_matrix(output.argmax(dim=1), indices, len(self.labels)).cpu()
        self.confusion += confusion
        return {**self._values(confusion), "pixels": self._pixels(confusion)}

    def add(self, other: Metrics) -> None:
        """Add the pixels of another."""
        assert isinstance(other, SegmentationMetrics)
        self.confusion += other.confusion

    def state(self) -> list[Any]:
        """Return the confusion matrix."""
        rows: list[Any] = self.confusion.tolist()
        return rows

    def load_state(self, state: list[Any]) -> None:
        """Replace the confusion matrix; raise ValueError if this is none."""
        count = len(self.labels)
        if not fits(state, list[list[int]]) or [len(row) for row in state] != [count] * count:
            raise ValueError(f"{shown(state)}; expected {count} rows of {count} pixel counts")
        if any(value < 0 for row in state for value in row) or sum(map(sum, state)) > MAX_PIXELS:
            raise ValueError(f"{shown(state)}; expected counts of pixels")
        self.confusion = torch.tensor(state, dtype=torch.int64)

    def compute(self) -> Values:
        """Return the metrics; NaN for a label that occurs in neither targets nor outputs."""
        return self._values(self.confusion)

    def _values(self, confusion: Tensor) -> Values:
        values = label_metrics(label_counts(confusion))
        return {
            name: dict(zip(map(str, self.labels), value.tolist(), strict=True))
            if value.dim()
            else float(value)
            for name, value in values.items()
        }

    def _pixels(self, confusion: Tensor) -> dict[str, list[int]]:
        counts = label_counts(confusion).t().tolist()
        return dict(zip(map(str, self.labels), counts, strict=True))


def counted(target: Tensor, mask: Tensor | None) -> Tensor:
    """Class indices [B, 1, *space], `IGNORED` where the mask is False."""
    return target if mask is None else torch.where(mask, target, IGNORED)


def label_counts(confusion: Tensor) -> Tensor:
    """Pixels of each label in target and output, in the target, and in the output, [3, K]."""
    return torch.stack([confusion.diagonal(), confusion.sum(1), confusion.sum(0)])


def label_metrics(counts: Tensor) -> dict[str, Tensor]:
    """Return metrics of a segmentation, from the counts of its pixels.

    Args:
        counts: [..., 3, K]: see `label_counts`.

    Returns:
        accuracy, mean_iou and mean_dice, [...], and iou, dice, precision and recall, [..., K], in
        float64. NaN for a label that is in neither target nor output, precision for one that is
        not in the output, recall for one that is not in the target; the means leave NaN out.
    """
    hits, in_target, in_output = counts.double().unbind(-2)
    iou = hits / (in_target + in_output - hits)
    dice = 2 * hits / (in_target + in_output)
    return {
        "accuracy": hits.sum(-1) / in_target.sum(-1),
        "mean_iou": iou.nanmean(-1),
        "mean_dice": dice.nanmean(-1),
        "iou": iou,
        "dice": dice,
        "precision": hits / in_output,
        "recall": hits / in_target,
    }


def psnr(difference: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in dB: 10 log10(data_range^2 / mean squared difference).

    Args:
        difference: of output and target, at the pixels that count; any shape, floating point.
        data_range: value range of the images.

    Returns:
        A scalar; infinite where output and target agree everywhere.
    """
    peak, base = difference.new_tensor(data_range), difference.new_tensor(10.0)
    return (2 * peak.log() - difference.square().mean().log()) * (10 / base.log())


def confusion_matrix(output: Tensor, target: Tensor, num_labels: int) -> Tensor:
    """Count the pixels of each pair of class indices.

    Args:
        output, target: class indices of one shape, int64; a pixel does not count where the target
            is `IGNORED`.
        num_labels: K.

    Returns:
        [K, K], int64: a row for each index of the target, a column for each of the output.
    """
    counts = target != IGNORED
    pairs = num_labels * target[counts] + output[counts]
    return torch.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)

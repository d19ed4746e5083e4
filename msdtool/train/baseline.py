"""What doing nothing scores in validation: the input itself, or the most frequent label."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msdtool.data.slabs import central_slice
from msdtool.measure.metrics import build_metrics
from msdtool.train.processes import ALONE, Processes

COMPARED = ("psnr", "ssim", "accuracy", "mean_iou")


class Baseline:
    """Measures inputs, or one label everywhere, as if they were the outputs of a network.

    It does so once: the images do not change. Inputs can be measured if they have the shape of
    their targets; of a slab, its central slice counts.

    Args:
        labels: the label values, in the order of the output channels; empty for a regression.
        label_counts: training pixels per label.
        data_range: value range that PSNR and SSIM refer to.
        slab: slices above, and below, the central one in the input's channels.
    """

    def __init__(
        self,
        labels: Sequence[int],
        label_counts: Sequence[int],
        data_range: float,
        slab: int = 0,
    ) -> None:
        self.metrics = build_metrics(labels, data_range)
        self.slab = slab
        self.scores = torch.tensor([float(count == max(label_counts)) for count in label_counts])
        self.comparable = True
        self._known: dict[str, float] | None = None

    def update(self, input: Tensor, target: Tensor, mask: Tensor | None) -> None:
        """Add an image [1, C, *space] with its target and mask, unless all are known already."""
        if self._known is not None or not self.comparable:
            return
        if self.scores.numel():
            scores = self.scores.to(target.device).reshape(1, -1, *[1] * (target.ndim - 2))
            shown = scores.expand(-1, -1, *target.shape[2:])
        else:
            shown = central_slice(input[0], self.slab).unsqueeze(0)
            self.comparable = shown.shape == target.shape
        if self.comparable:
            self.metrics.update(shown, target, mask)

    def values(self, processes: Processes = ALONE) -> dict[str, float]:
        """Return the metrics over the images of all processes; empty if there is none."""
        if self._known is None:
            (metrics, comparable), *others = processes.gather((self.metrics, self.comparable))
            for other, also in others:
                metrics.add(other)
                comparable = comparable and also
            self._known = _finite(metrics.compute()) if comparable else {}
        return self._known


def compared(metrics: dict[str, Any], baseline: dict[str, float]) -> dict[str, float]:
    """Return the metrics of doing nothing, and what the network gains over each."""
    known = _finite({name: value for name, value in metrics.items() if name in baseline})
    gains = {f"gain_{name}": value - baseline[name] for name, value in known.items()}
    return {**{f"baseline_{name}": value for name, value in baseline.items()}, **gains}


def _finite(values: dict[str, Any]) -> dict[str, float]:
    return {k: values[k] for k in COMPARED if k in values and math.isfinite(values[k])}

"""An input, the network's output and the target side by side, with their quality in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from msdtool.data import Sample
from msdtool.measure.metrics import RegressionMetrics

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Comparison:
    """One row of a figure.

    Attributes:
        input: values [C, *space].
        output: values [C, *space], or class indices [*space].
        target: as ``output``; class indices below 0 do not count.
        title: what is shown, such as the file's name.
        input_note: caption of the input, such as its PSNR.
        output_note: caption of the output.
    """

    input: Array
    output: Array
    target: Array
    title: str
    input_note: str = ""
    output_note: str = ""


def ranked(losses: Sequence[float]) -> dict[str, int]:
    """Return which images stand for all: the best, a typical and the worst, each another one."""
    order = [int(index) for index in np.argsort(losses)]
    if len(order) == 1:
        return {"typical": order[0]}
    ends = {"best": order[0], "worst": order[-1]}
    return ends if len(order) == 2 else ends | {"typical": order[len(order) // 2]}


def rank_text(name: str, count: int) -> str:
    """Return what a picture says about one of ``count`` images, see `ranked`."""
    return f"{name} of {count}" if count > 1 else "the only image"


def compare(
    sample: Sample, output: Tensor, num_labels: int, data_range: float | None, title: str
) -> Comparison:
    """Compare a sample with the network's output for it.

    Args:
        sample: input and target, on the CPU.
        output: [C, *space] values, or scores [K, *space].
        num_labels: K, or 0 for a regression.
        data_range: value range that PSNR and SSIM of a regression refer to; None: they are left
            out, since the target is noisy.
        title: what is shown.
    """
    if num_labels:
        indices = output.argmax(0).numpy()
        return Comparison(sample.input.numpy(), indices, sample.target[0].numpy(), title)
    comparable = sample.input.shape == sample.target.shape
    return Comparison(
        sample.input.numpy(),
        output.numpy(),
        sample.target.numpy(),
        title,
        input_note=_quality(sample.input, sample, data_range) if comparable else "",
        output_note=_quality(output, sample, data_range),
    )


def _quality(image: Tensor, sample: Sample, data_range: float | None) -> str:
    if data_range is None:
        return ""
    mask = None if sample.mask is None else sample.mask.unsqueeze(0)
    values = RegressionMetrics(data_range).update(
        image.unsqueeze(0), sample.target.unsqueeze(0), mask
    )
    return f"PSNR {values['psnr']:.2f} dB, SSIM {values['ssim']:.3f}"

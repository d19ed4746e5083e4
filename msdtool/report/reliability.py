"""How often labels are right, over the probability that they were given."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msdtool.report.pictures import save_figure


def save_reliability(path: Path, results: dict[str, Any]) -> None:
    """Draw a reliability curve and the pixels in each bin; write a PNG.

    Args:
        path: the PNG.
        results: see `msdtool.measure.calibration.Reliability.to_dict`.
    """
    figure = Figure(figsize=(5, 6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    pixels = np.array(results["pixels"])
    edges = np.linspace(0, 1, len(pixels) + 1)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as sure as right")
    axes.plot(results["confidence"], results["accuracy"], marker="o", label="network")
    error = results["expected_calibration_error"]
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        ylabel="fraction of pixels that are right",
        title=f"expected calibration error {error:.3g}",
    )
    axes.legend(loc="upper left")
    below.stairs(pixels / max(pixels.sum(), 1), edges, fill=True)
    below.set(xlabel="probability of the label", ylabel="fraction of pixels")
    save_figure(path, figure)

"""A figure of several methods' results for one image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from msdtool.measure.comparisons import Array
from msdtool.report.pictures import save_figure

DETAIL = 1 / 4
"""Side of the enlarged detail, in the middle of the image, as a fraction of the image's."""
ERROR_RANGE = 1 / 3
"""The largest error that is told apart, as a fraction of the range of grey values."""


def save_methods(
    path: Path, results: Mapping[str, Array], notes: Mapping[str, str], truth: Array
) -> None:
    """Draw a column per method: the image, a detail of it, its absolute error; write a PNG.

    Args:
        path: the PNG.
        results: images [H, W] by method; all have the grey values of the truth.
        notes: below each method's name, such as its PSNR.
        truth: [H, W], in a column of its own.
    """
    figure = Figure(figsize=(2.4 * (len(results) + 1), 7.6), layout="constrained")
    axes = figure.subplots(3, len(results) + 1)
    low, high = np.percentile(truth, (0.5, 99.5))
    detail = tuple(
        slice(round(side * (1 - DETAIL) / 2), round(side * (1 + DETAIL) / 2))
        for side in truth.shape
    )
    columns = [(f"{name}\n{notes[name]}", image) for name, image in results.items()]
    for (title, image), (whole, enlarged, _) in zip(
        [*columns, ("ground truth", truth)], axes.T, strict=True
    ):
        whole.set_title(title, fontsize=10)
        _show(whole, image, low, high)
        _show(enlarged, image[detail], low, high)
    for (_, image), axis in zip(columns, axes[2], strict=False):
        _show(axis, np.abs(image - truth), 0, ERROR_RANGE * (high - low), colours="inferno")
    axes[2, -1].set_axis_off()
    for axis, label in zip(axes[:, 0], ("image", "detail", "error"), strict=True):
        axis.set_ylabel(label)
    save_figure(path, figure)


def _show(axis: Axes, image: Array, low: float, high: float, colours: str = "gray") -> None:
    axis.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])

"""How the losses and the metrics of runs went over the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msdtool.report.pictures import save_figure

Rows = Sequence[dict[str, Any]]
METRICS = ("psnr", "ssim", "accuracy", "mean_iou")


def save_curves(path: Path, runs: Mapping[str, Rows]) -> None:
    """Draw losses, and the validation metrics if there are any, over epochs; write a PNG.

    Args:
        path: the PNG.
        runs: the epoch rows of each run, by the name to show.
    """
    names = [name for name in METRICS if any(_points(rows, name) for rows in runs.values())]
    figure = Figure(figsize=(5 * (1 + len(names)), 3.5), layout="constrained")
    axes = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    for index, (run, rows) in enumerate(runs.items()):
        colour = f"C{index}"
        label = f"{run}, " if len(runs) > 1 else ""
        _draw(axes[0], rows, "train_loss", f"{label}training", color=colour, linestyle=":")
        _draw(axes[0], rows, "validation_loss", f"{label}validation", color=colour)
        for axis, name in zip(axes[1:], names, strict=True):
            _draw(axis, rows, name, run, color=colour)
    if all(value > 0 for rows in runs.values() for _, value in _points(rows, "train_loss")):
        axes[0].set_yscale("log")
    for axis, name in zip(axes, ("loss", *names), strict=True):
        axis.set_ylabel(name)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        if axis is axes[0] or len(runs) > 1:
            axis.legend(fontsize=8)
    save_figure(path, figure)


def _points(rows: Rows, name: str) -> list[tuple[int, float]]:
    return [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]


def _draw(axis: Axes, rows: Rows, name: str, label: str, **style: Any) -> None:
    points = _points(rows, name)
    if points:
        # A line needs two points to be seen.
        marker = "o" if len(points) < 30 else ""
        axis.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3, **style)

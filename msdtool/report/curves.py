"""How the loss and the metrics went over the epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msdtool.report.pictures import save_figure

METRICS = ("psnr", "ssim", "accuracy", "mean_iou")


def save_curves(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draw losses, and the validation metrics if there are any, over epochs; write a PNG.

    Args:
        path: the PNG.
        rows: events of metrics.jsonl; those of epochs are drawn.
    """
    epochs = [row for row in rows if row.get("event") == "epoch"]
    names = [name for name in METRICS if any(row.get(name) is not None for row in epochs)]
    figure = Figure(figsize=(5 * (1 + len(names)), 3.5), layout="constrained")
    axes = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    for name in ("train_loss", "validation_loss"):
        _draw(axes[0], epochs, name)
    if all(row["train_loss"] > 0 for row in epochs):
        axes[0].set_yscale("log")
    axes[0].set_ylabel("loss")
    axes[0].legend(fontsize=8)
    for axis, name in zip(axes[1:], names, strict=True):
        _draw(axis, epochs, name)
        axis.set_ylabel(name)
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    save_figure(path, figure)


def _draw(axis: Any, epochs: Sequence[dict[str, Any]], name: str) -> None:
    points = [(row["epoch"], row[name]) for row in epochs if row.get(name) is not None]
    if points:
        marker = "o" if len(points) < 30 else ""
        axis.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=3)

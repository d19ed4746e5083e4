"""Losses and metrics of runs over the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msdtool.report.pictures import as_label, save_figure

Rows = Sequence[dict[str, Any]]
METRICS = ("psnr", "ssim", "accuracy", "mean_iou")
BESIDE = {"gradient_norm": 1, "learning_rate": 1, "memory_bytes": 2**30}
"""What else is drawn, and the unit that it is drawn in."""
LABELS = {"memory_bytes": "peak memory in GiB"}
COLUMNS = 3


def save_curves(path: Path, runs: Mapping[str, Rows]) -> None:
    """Draw losses, metrics beside those of doing nothing, and how training went; write a PNG.

    Args:
        path: the PNG.
        runs: the epoch rows of each run, by the run's name in the legend.
    """
    runs = {as_label(run): rows for run, rows in runs.items()}
    names = [
        name for name in (*METRICS, *BESIDE) if any(_points(rows, name) for rows in runs.values())
    ]
    lines = -(-(1 + len(names)) // COLUMNS)
    columns = min(1 + len(names), COLUMNS)
    figure = Figure(figsize=(5 * columns, 3.5 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    _draw_losses(panels[0], runs)
    for axis, name in zip(panels[1:], names, strict=False):
        _draw_values(axis, runs, name)
    for axis in panels[1 + len(names) :]:
        axis.remove()
    save_figure(path, figure)


def _draw_losses(axis: Axes, runs: Mapping[str, Rows]) -> None:
    for index, (run, rows) in enumerate(runs.items()):
        label, colour = f"{run}, " if len(runs) > 1 else "", f"C{index}"
        _draw(axis, rows, "train_loss", f"{label}training", color=colour, linestyle=":")
        _draw(axis, rows, "validation_loss", f"{label}validation", color=colour)
    if all(value > 0 for rows in runs.values() for _, value in _points(rows, "train_loss")):
        axis.set_yscale("log")
    _finish(axis, "loss", has_legend=True)


def _draw_values(axis: Axes, runs: Mapping[str, Rows], name: str) -> None:
    for index, (run, rows) in enumerate(runs.items()):
        _draw(axis, rows, name, run, color=f"C{index}")
    baselines = {run: _points(rows, f"baseline_{name}") for run, rows in runs.items()}
    for index, (run, points) in enumerate(baselines.items()):
        if points:
            label = f"{run}, doing nothing" if len(runs) > 1 else "doing nothing"
            _draw(axis, runs[run], f"baseline_{name}", label, color=f"C{index}", linestyle="--")
    if name == "gradient_norm":
        axis.set_yscale("log")
    _finish(axis, LABELS.get(name, name), has_legend=len(runs) > 1 or any(baselines.values()))


def _finish(axis: Axes, label: str, *, has_legend: bool) -> None:
    axis.set_ylabel(label)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if has_legend:
        axis.legend(fontsize=8)


def _points(rows: Rows, name: str) -> list[tuple[int, float]]:
    unit = BESIDE.get(name, 1)
    return [(row["epoch"], row[name] / unit) for row in rows if row.get(name) is not None]


def _draw(axis: Axes, rows: Rows, name: str, label: str, **style: Any) -> None:
    points = _points(rows, name)
    if points:
        # A single point would be invisible without a marker.
        marker = "o" if len(points) < 30 else ""
        axis.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3, **style)

"""Losses and metrics of runs over the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from msdtool.report.pictures import as_label, save_figure

Rows = Sequence[dict[str, Any]]
METRICS = ("psnr", "ssim", "accuracy", "mean_iou")
BESIDE = {"gradient_norm": 1, "learning_rate": 1, "memory_bytes": 2**30}
"""What else is drawn, and the unit that it is drawn in."""
LABELS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "mean_iou": "mean IoU",
    "gradient_norm": "gradient norm",
    "learning_rate": "learning rate",
    "memory_bytes": "peak memory (GiB)",
}
COLUMNS = 3


def save_curves(path: Path, runs: Mapping[str, Rows]) -> None:
    """Draw losses, metrics beside those of doing nothing, and how training went; write a PNG.

    Dotted lines mark the best epoch of each run. Of a single run, the IoU of each label is drawn.

    Args:
        path: the PNG.
        runs: the epoch rows of each run, by the run's name in the legend.
    """
    runs = {as_label(run): rows for run, rows in runs.items()}
    names = [
        name for name in (*METRICS, *BESIDE) if any(_points(rows, name) for rows in runs.values())
    ]
    per_label = [row for rows in runs.values() for row in rows if row.get("iou")]
    per_label = per_label if len(runs) == 1 else []
    count = 1 + len(names) + bool(per_label)
    lines, columns = -(-count // COLUMNS), min(count, COLUMNS)
    figure = Figure(figsize=(5 * columns, 3.5 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    _draw_losses(panels[0], runs)
    for axis, name in zip(panels[1:], names, strict=False):
        _draw_values(axis, runs, name)
    if per_label:
        _draw_overlaps(panels[count - 1], per_label)
    for axis in panels[count:]:
        axis.remove()
    for index, rows in enumerate(runs.values()):
        best = _best_epoch(rows)
        for axis in panels[:count] if best is not None else ():
            axis.axvline(best, color=f"C{index}", linestyle=":", linewidth=1)
    save_figure(path, figure)


def _draw_losses(axis: Axes, runs: Mapping[str, Rows]) -> None:
    for index, (run, rows) in enumerate(runs.items()):
        label, colour = f"{run}, " if len(runs) > 1 else "", f"C{index}"
        _draw(axis, rows, "train_loss", f"{label}training", color=colour, linestyle=":")
        _draw(axis, rows, "validation_loss", f"{label}validation", color=colour)
    if _are_positive(runs, "train_loss"):
        axis.set_yscale("log")
    _finish(axis, "loss", has_legend=True)


def _best_epoch(rows: Rows) -> int | None:
    """The epoch whose network is kept: the one of the smallest loss."""
    points = _points(rows, "validation_loss") or _points(rows, "train_loss")
    return min(points, key=lambda point: point[1])[0] if points else None


def _draw_overlaps(axis: Axes, rows: Rows) -> None:
    labels = dict.fromkeys(label for row in rows for label in row["iou"])
    for index, label in enumerate(labels):
        one = [{"epoch": row["epoch"], "iou": row["iou"].get(label)} for row in rows]
        _draw(axis, one, "iou", str(label), color=f"C{index % 10}")
    _finish(axis, "IoU of each label", has_legend=True)


def _draw_values(axis: Axes, runs: Mapping[str, Rows], name: str) -> None:
    for index, (run, rows) in enumerate(runs.items()):
        _draw(axis, rows, name, run, color=f"C{index}")
    baselines = {run: _points(rows, f"baseline_{name}") for run, rows in runs.items()}
    for index, (run, points) in enumerate(baselines.items()):
        if points:
            label = f"{run}, doing nothing" if len(runs) > 1 else "doing nothing"
            _draw(axis, runs[run], f"baseline_{name}", label, color=f"C{index}", linestyle="--")
    if name == "gradient_norm" and _are_positive(runs, name):
        axis.set_yscale("log")
    _finish(axis, LABELS.get(name, name), has_legend=len(runs) > 1 or any(baselines.values()))


def _finish(axis: Axes, label: str, *, has_legend: bool) -> None:
    axis.set_ylabel(label)
    axis.set_xlabel("epoch")
    if axis.get_yscale() == "log":
        plain = FuncFormatter(lambda value, _position: f"{value:g}")
        axis.yaxis.set_major_formatter(plain)
        low, high = axis.get_ylim()
        # Within one decade, only the steps between have labels.
        axis.yaxis.set_minor_formatter(plain if high < 10 * low else NullFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if has_legend:
        axis.legend(fontsize=8)


def _are_positive(runs: Mapping[str, Rows], name: str) -> bool:
    return all(value > 0 for rows in runs.values() for _, value in _points(rows, name))


def _points(rows: Rows, name: str) -> list[tuple[int, float]]:
    unit = BESIDE.get(name, 1)
    return [(row["epoch"], row[name] / unit) for row in rows if row.get(name) is not None]


def _draw(axis: Axes, rows: Rows, name: str, label: str, **style: Any) -> None:
    points = _points(rows, name)
    if points:
        # A single point would be invisible without a marker.
        marker = "o" if len(points) < 30 else ""
        axis.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3, **style)

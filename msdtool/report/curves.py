"""Losses and metrics of runs over the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from msdtool.report.pictures import as_label, save_figure
from msdtool.runs.rows import best_row

Rows = Sequence[dict[str, Any]]
METRICS = ("psnr", "ssim", "accuracy", "mean_iou", "coverage", "frc", "edges")
BESIDE = {"gradient_norm": 1, "learning_rate": 1, "memory_bytes": 2**30}
"""What else is drawn, and the unit that it is drawn in."""
LABELS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "mean_iou": "mean IoU",
    "coverage": "coverage of intervals",
    "frc": "ring correlation of halves",
    "edges": "contrast of edges",
    "gradient_norm": "gradient norm",
    "learning_rate": "learning rate",
    "memory_bytes": "peak memory (GiB)",
}
COLUMNS = 3
MAX_CHARACTERS = 60
"""Characters of the legend that are as wide as a panel."""
STYLES: dict[str, dict[str, Any]] = {
    "training": {"linestyle": ":"},
    "validation": {"linestyle": "-"},
    "doing nothing": {"linestyle": "--"},
    "best epoch": {"linestyle": "-.", "linewidth": 0.8},
}
"""How lines are drawn whose colour tells the run."""


def save_curves(path: Path, runs: Mapping[str, Rows]) -> None:
    """Draw the learning curves of runs and write a PNG; see `draw_curves`.

    Args:
        path: the PNG.
        runs: the epoch rows of each run, by the run's name in the legend.
    """
    save_figure(path, draw_curves(runs))


def draw_curves(runs: Mapping[str, Rows]) -> Figure:
    """Draw losses, metrics beside those of doing nothing, and how training went.

    Vertical lines mark the best epoch of each run. Of a single run, the IoU of each label is drawn.
    The legends stand beside the panels, where they hide no curve.

    Args:
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
    legend = _legend(runs)
    entries = max(1, int(MAX_CHARACTERS * columns // max(len(str(e.get_label())) for e in legend)))
    height = 3.5 * lines + 0.2 * -(-len(legend) // entries)
    figure = Figure(figsize=(5 * columns, height), layout="constrained")
    figure.legend(handles=legend, fontsize=8, loc="outside lower left", ncols=entries)
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
            axis.axvline(best, color=f"C{index}", **STYLES["best epoch"])
    return figure


def _legend(runs: Mapping[str, Rows]) -> list[Line2D]:
    """What colours and styles of lines stand for, as far as they are used."""
    used = {
        "training": any(_points(rows, "train_loss") for rows in runs.values()),
        "validation": any(_points(rows, "validation_loss") for rows in runs.values()),
        "doing nothing": any(
            _points(rows, f"baseline_{name}") for rows in runs.values() for name in METRICS
        ),
        "best epoch": any(_best_epoch(rows) is not None for rows in runs.values()),
    }
    names = [Line2D([], [], color=f"C{index}", label=run) for index, run in enumerate(runs)]
    styles = [
        Line2D([], [], color="0.3", label=style, **STYLES[style])
        for style, is_used in used.items()
        if is_used
    ]
    return [*names, *styles]


def _draw_losses(axis: Axes, runs: Mapping[str, Rows]) -> None:
    for index, rows in enumerate(runs.values()):
        colour = f"C{index}"
        _draw(axis, rows, "train_loss", color=colour, **STYLES["training"])
        _draw(axis, rows, "validation_loss", color=colour, **STYLES["validation"])
    if _are_positive(runs, "train_loss"):
        axis.set_yscale("log")
    _finish(axis, "loss")


def _best_epoch(rows: Rows) -> int | None:
    """The epoch whose network is kept."""
    best = best_row(rows)
    return None if best is None else best["epoch"]


def _draw_overlaps(axis: Axes, rows: Rows) -> None:
    labels = dict.fromkeys(label for row in rows for label in row["iou"])
    for index, label in enumerate(labels):
        one = [{"epoch": row["epoch"], "iou": row["iou"].get(label)} for row in rows]
        _draw(axis, one, "iou", color=f"C{index % 10}", label=str(label))
    _finish(axis, "IoU of each label")
    axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False)


def _draw_values(axis: Axes, runs: Mapping[str, Rows], name: str) -> None:
    for index, rows in enumerate(runs.values()):
        _draw(axis, rows, name, color=f"C{index}")
        _draw(axis, rows, f"baseline_{name}", color=f"C{index}", **STYLES["doing nothing"])
    if name == "gradient_norm" and _are_positive(runs, name):
        axis.set_yscale("log")
    _finish(axis, LABELS.get(name, name))


def _finish(axis: Axes, label: str) -> None:
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


def _are_positive(runs: Mapping[str, Rows], name: str) -> bool:
    return all(value > 0 for rows in runs.values() for _, value in _points(rows, name))


def _points(rows: Rows, name: str) -> list[tuple[int, float]]:
    unit = BESIDE.get(name, 1)
    return [(row["epoch"], row[name] / unit) for row in rows if row.get(name) is not None]


def _draw(axis: Axes, rows: Rows, name: str, **style: Any) -> None:
    points = _points(rows, name)
    if points:
        # A single point would be invisible without a marker.
        marker = "o" if len(points) < 30 else ""
        axis.plot(*zip(*points, strict=True), marker=marker, markersize=3, **style)

"""The cost of a training step, over the number of pixels and over the depth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from msdtool.report.pictures import save_figure

Vector = np.ndarray[Any, np.dtype[np.float64]]
STYLES = ("o-", "s--", "^:")


def save_costs(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draw the time of a step over pixels and over depth, on logarithmic axes; write a PNG.

    The legend states the slope of each line of two or more points: the exponent with which the time
    grows with the number of pixels, or with the depth.

    Args:
        path: the PNG.
        rows: measurements, as `msdtool bench --json` prints them.
    """
    measured = [row for row in rows if row["step_seconds"] is not None]
    figure = Figure(figsize=(12, 7), layout="constrained")
    over_pixels, over_depth = figure.subplots(1, 2)
    _draw(
        over_pixels,
        measured,
        "pixels",
        lambda row: f"{row['ndim']}D, depth {row['depth']}, width {row['width']}",
    )
    over_pixels.set_xlabel("size of the image, on a scale of its pixels")
    _draw(
        over_depth,
        measured,
        "depth",
        lambda row: f"{_size(row['space'])}, width {row['width']}",
    )
    save_figure(path, figure)


def _draw(
    axes: Axes,
    rows: Sequence[dict[str, Any]],
    horizontal: str,
    group: Callable[[dict[str, Any]], str],
) -> None:
    """Draw a line for each method and group: a colour for each group, a style for each method."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        point = row[horizontal], row["step_seconds"]
        lines.setdefault((row["method"], group(row)), []).append(point)
    methods = list(dict.fromkeys(method for method, _ in lines))
    groups = list(dict.fromkeys(name for _, name in lines))
    for (method, name), points in lines.items():
        x, y = np.array(sorted(points), dtype=float).T
        axes.plot(
            x,
            y,
            STYLES[methods.index(method) % len(STYLES)],
            color=f"C{groups.index(name) % 10}",
            label=f"{method}, {name}{_slope(x, y)}",
            markersize=4,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    # Images of two and three axes may have equally many pixels.
    ticks: dict[int, dict[str, None]] = {}
    for row in rows:
        name = _size(row["space"]) if horizontal == "pixels" else str(row[horizontal])
        ticks.setdefault(row[horizontal], {})[name] = None
    axes.set_xticks(list(ticks), ["\n".join(names) for names in ticks.values()])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(horizontal)
    axes.set_ylabel("seconds per training step")
    axes.grid(alpha=0.3, which="both")
    if lines:
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _size(space: Sequence[int]) -> str:
    """The size of an image, such as 512² or 64 x 256 x 256."""
    if len(set(space)) == 1 and len(space) in (2, 3):
        return f"{space[0]}{'²' if len(space) == 2 else '³'}"
    return " x ".join(map(str, space))


def _slope(x: Vector, y: Vector) -> str:
    if len(set(x)) < 2:
        return ""
    return f": slope {np.polyfit(np.log(x), np.log(y), 1)[0]:.2f}"

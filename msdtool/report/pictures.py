"""Figures of input, output and target side by side."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from msdtool.atomic import atomic_path
from msdtool.file_errors import cannot_write
from msdtool.measure.comparisons import Array, Comparison

PANEL_INCHES = 3.2


def save_comparisons(path: Path, rows: Sequence[Comparison], num_labels: int = 0) -> None:
    """Draw input, output and target for each row and write a PNG.

    Volumes are represented by their middle slice. Values are scaled to the target's range; labels
    (``num_labels`` above 0) have one colour each.
    """
    figure = Figure(
        figsize=(3 * PANEL_INCHES, len(rows) * (PANEL_INCHES + 0.45)), layout="constrained"
    )
    axes = np.atleast_2d(np.asarray(figure.subplots(len(rows), 3, squeeze=False)))
    for row, line in zip(rows, axes, strict=True):
        _draw_row(row, line, num_labels)
    save_figure(path, figure)


def _draw_row(row: Comparison, axes: Sequence[Axes], num_labels: int) -> None:
    input = _flat(row.input)
    if num_labels:
        limits = _limits(input)
        _show_values(axes[0], input, limits)
        for axis, labels in ((axes[1], row.output), (axes[2], row.target)):
            _show_labels(axis, _middle(labels, 2), num_labels)
    else:
        target = _flat(row.target)
        limits = _limits(target)
        same_kind = row.input.shape == row.target.shape
        _show_values(axes[0], input, limits if same_kind else _limits(input))
        _show_values(axes[1], _flat(row.output), limits)
        _show_values(axes[2], target, limits)
    notes = (row.input_note, row.output_note, "")
    for axis, name, note in zip(axes, ("input", "output", "target"), notes, strict=True):
        axis.set_title(name if name != "input" else f"{as_label(row.title)}: input", fontsize=9)
        axis.set_xlabel(note, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])


def _middle(image: Array, ndim: int) -> Array:
    """The middle slice along all axes before the last ``ndim``."""
    while image.ndim > ndim:
        image = image[image.shape[0] // 2]
    return image


def _flat(image: Array) -> Array:
    """An image [C, *space] as [H, W], or [H, W, 3] if it has three channels."""
    if image.ndim == 4:
        image = image[:, image.shape[1] // 2]
    if image.shape[0] == 3:
        return np.moveaxis(image, 0, -1)
    return _middle(image, 2)


def _limits(image: Array) -> tuple[float, float]:
    low, high = np.nanpercentile(image, (0.5, 99.5))
    return float(low), float(high) if high > low else float(low) + 1.0


def _show_values(axis: Axes, image: Array, limits: tuple[float, float]) -> None:
    low, high = limits
    image = np.clip((image - low) / (high - low), 0, 1)
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _show_labels(axis: Axes, labels: Array, num_labels: int) -> None:
    shown = np.ma.masked_less(labels, 0)
    axis.imshow(shown, cmap="viridis", vmin=0, vmax=num_labels - 1, interpolation="nearest")


def as_label(name: str) -> str:
    """Return a name as text that is drawn as it is.

    Between dollars matplotlib reads formulas, labels with a leading underscore it leaves out, and
    it cannot draw names of files whose bytes are not UTF-8.
    """
    text = name.encode("utf-8", "backslashreplace").decode("utf-8").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, atomically.

    Raises:
        Error: it cannot be written.
    """
    FigureCanvasAgg(figure)
    with cannot_write(path), atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        figure.savefig(temporary, format="png", dpi=110)

"""Input, output and target side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from msdtool.atomic import atomic_path
from msdtool.errors import Error

Array = np.ndarray[Any, np.dtype[Any]]
PANEL_INCHES = 3.2


@dataclass
class Comparison:
    """One row of a picture.

    Attributes:
        input: [C, *space] values.
        output: [C, *space] values, or [*space] class indices.
        target: likewise; class indices below 0 do not count.
        title: what is shown, such as the file's name.
        input_note: below the input, such as its PSNR.
        output_note: below the output.
    """

    input: Array
    output: Array
    target: Array
    title: str
    input_note: str = ""
    output_note: str = ""


def save_comparisons(path: Path, rows: Sequence[Comparison], num_labels: int = 0) -> None:
    """Draw input | output | target for each row and write a PNG.

    Volumes are shown by their middle slice. Values are shown in the target's range, labels
    (``num_labels`` above 0) in one colour each.
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
        axis.set_title(name if name != "input" else f"{row.title}: input", fontsize=9)
        axis.set_xlabel(note, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])


def _middle(image: Array, ndim: int) -> Array:
    """The middle slice along the axes in front of the last ``ndim``."""
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


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        Error: it cannot be written.
    """
    FigureCanvasAgg(figure)
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110)
    except OSError as error:
        raise Error(f"{path}: cannot be written: {error.strerror or error}") from None

"""Figures of input, output, target and error side by side."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from msdtool.atomic import PNG_START, atomic_path, check_kind
from msdtool.file_errors import cannot_write
from msdtool.measure.comparisons import Array, Comparison
from msdtool.report.panels import LABEL_COLOURS, PANELS_KEY, Panel, Preview, panels_text

OF_VALUES = ("input", "output", "target", "output - target")
OF_LABELS = ("input, outlines of the target", "output", "target", "wrong pixels")
"""What the panels of a row show, in a regression and in a segmentation."""
PANEL_INCHES = 3.2
DOTS_PER_INCH = 110
MAX_DOTS_PER_INCH = 160
"""With images of many pixels a figure of comparisons has more dots, up to so many."""
TITLE_INCHES, CAPTION_INCHES = 0.5, 0.2
"""Heights of what stands above, and below, a panel."""
ASPECTS = (0.25, 2.5)
"""Panels are at least, and at most, so many times as high as wide."""
ERROR_COLOURS = "RdBu_r"
MISTAKE = "crimson"
MAX_IN_LEGEND = 12


def save_comparisons(path: Path, rows: Sequence[Comparison], labels: Sequence[int] = ()) -> None:
    """Draw input, output, target and error for each row and write a PNG.

    Volumes are represented by their middle slice or, of a segmentation, by the one with the most
    pixels that are labelled; the title tells its number, from 0, in what is drawn. Values are
    scaled to the target's range; the error is the output minus the target. Labels have one colour
    each, the input shows the outlines of the target, and the error is the pixels that are wrong.
    Where the panels of the first row are is part of the file; see `msdtool.report.panels`.

    Args:
        path: the PNG.
        rows: what to draw.
        labels: the values that class indices stand for; empty for a regression.
    """
    aspects = [np.clip(row.input.shape[-2] / row.input.shape[-1], *ASPECTS) for row in rows]
    columns = len(OF_LABELS if labels else OF_VALUES)
    width = columns * PANEL_INCHES + (1.4 if labels else 0)
    height_of_text = TITLE_INCHES + (0 if labels else CAPTION_INCHES)
    height = sum(PANEL_INCHES * aspect + height_of_text for aspect in aspects)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=aspects)
    said = [_draw(row, line, labels) for row, line in zip(rows, axes, strict=True)]
    pixels = max(row.target.shape[-1] for row in rows)
    dots = int(np.clip(pixels / PANEL_INCHES, DOTS_PER_INCH, MAX_DOTS_PER_INCH))
    save_figure(path, figure, dots, lambda: panels_text(figure, axes[0], said[0]))


def _draw(row: Comparison, axes: Sequence[Axes], labels: Sequence[int]) -> Preview:
    """Draw one row; return what it says, without the images."""
    number = _slice(row, is_labelled=bool(labels))
    legend: list[tuple[str, str]] = []
    if labels:
        legend = _draw_labels(row, number, axes, labels)
        panels = [Panel(name) for name in OF_LABELS]
    else:
        range_note = _draw_values(row, number, axes)
        notes = (row.input_note, row.output_note, "", range_note)
        panels = [Panel(*said) for said in zip(OF_VALUES, notes, strict=True)]
    for axis, panel in zip(axes, panels, strict=True):
        if axis is not axes[0]:
            axis.set_title(panel.name, fontsize=9)
        axis.set_xlabel(panel.note, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    title = row.title if number is None else f"{row.title}, its slice {number}"
    axes[0].set_title(f"{as_label(title)}\n{panels[0].name}", fontsize=9, loc="left")
    return Preview(title, panels, legend)


def _slice(row: Comparison, *, is_labelled: bool) -> int | None:
    """The slice of a volume that is shown."""
    if row.input.ndim < 4:
        return None
    middle: int = row.input.shape[1] // 2
    if not is_labelled:
        return middle
    counts = (row.target >= 0).reshape(len(row.target), -1).sum(1)
    return middle if counts[middle] == counts.max() else int(counts.argmax())


def _draw_values(row: Comparison, number: int | None, axes: Sequence[Axes]) -> str:
    """Draw images; return what the colours of the error mean."""
    # Layers of a network may enlarge volumes.
    input, output, target = (
        _flat(image, None if number is None else number * (image.shape[1] // row.input.shape[1]))
        for image in (row.input, row.output, row.target)
    )
    limits = _limits(target)
    same_kind = row.input.shape == row.target.shape
    _show_values(axes[0], input, limits if same_kind else _limits(input))
    _show_values(axes[1], output, limits)
    _show_values(axes[2], target, limits)
    error = output - target
    error = error.mean(-1) if error.ndim == 3 else error
    largest = float(np.nanpercentile(np.abs(error), 99.5)) or 1.0
    axes[3].imshow(error, cmap=ERROR_COLOURS, vmin=-largest, vmax=largest, interpolation="nearest")
    return f"blue {-largest:.3g}, red {largest:.3g}"


def _draw_labels(
    row: Comparison, number: int | None, axes: Sequence[Axes], labels: Sequence[int]
) -> list[tuple[str, str]]:
    """Draw labels; return the entries of the legend, colours as in HTML."""
    input = _flat(row.input, number)
    output, target = (
        image if number is None else image[number] for image in (row.output, row.target)
    )
    colours = colormaps[LABEL_COLOURS](np.linspace(0, 1, len(labels)))
    _show_values(axes[0], input, _limits(input))
    grey = input if input.ndim == 2 else input.mean(-1)  # colours would hide what is wrong
    _show_values(axes[3], grey, _limits(grey))
    for index, colour in enumerate(colours):
        here = target == index
        if here.any() and not here.all() and min(here.shape) > 1:
            # A rim, since the image may have any colour.
            axes[0].contour(here, levels=[0.5], colors="white", linewidths=2.5)
            axes[0].contour(here, levels=[0.5], colors=[colour], linewidths=1)
    for axis, image in ((axes[1], output), (axes[2], target)):
        shown = np.ma.masked_less(image, 0)
        axis.imshow(
            shown, cmap=LABEL_COLOURS, vmin=0, vmax=len(labels) - 1, interpolation="nearest"
        )
    wrong = np.zeros((*target.shape, 4))
    wrong[(output != target) & (target >= 0)] = to_rgba(MISTAKE, 0.8)
    axes[3].imshow(wrong, interpolation="nearest")
    entries = [
        Patch(color=colours[index], label=f"{label}: IoU {_overlap(row, index)}")
        for index, label in enumerate(labels[:MAX_IN_LEGEND])
    ]
    entries.append(Patch(color=MISTAKE, label="wrong"))
    if (target < 0).any():
        entries.append(Patch(facecolor="white", edgecolor="grey", label="not labelled"))
    axes[3].legend(handles=entries, fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    return [(to_hex(entry.get_facecolor()), str(entry.get_label())) for entry in entries]


def _overlap(row: Comparison, index: int) -> str:
    """The intersection over union of a label in the whole image, where the target counts."""
    counts = row.target >= 0
    found, true = (row.output == index) & counts, (row.target == index) & counts
    union = np.count_nonzero(found | true)
    return f"{np.count_nonzero(found & true) / union:.2f}" if union else "-"


def _flat(image: Array, number: int | None) -> Array:
    """An image [C, *space], or a slice of it, as [H, W], or [H, W, 3] if it has three channels."""
    if number is not None:
        image = image[:, number]
    if image.shape[0] == 3:
        return np.moveaxis(image, 0, -1)
    flat: Array = image[image.shape[0] // 2]
    return flat


def _limits(image: Array) -> tuple[float, float]:
    low, high = np.nanpercentile(image, (0.5, 99.5))
    return float(low), float(high) if high > low else float(low) + 1.0


def _show_values(axis: Axes, image: Array, limits: tuple[float, float]) -> None:
    low, high = limits
    image = np.clip((image - low) / (high - low), 0, 1)
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def as_label(name: str) -> str:
    """Return a name as text that is drawn as it is.

    Between dollars matplotlib reads formulas, labels with a leading underscore it leaves out, and
    it cannot draw names of files whose bytes are not UTF-8.
    """
    text = name.encode("utf-8", "backslashreplace").decode("utf-8").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def save_figure(
    path: Path,
    figure: Figure,
    dots: int = DOTS_PER_INCH,
    text: Callable[[], str] | None = None,
) -> None:
    """Write a figure as PNG, atomically.

    Args:
        path: the PNG.
        figure: what to draw.
        dots: per inch.
        text: called when everything has its place; returns what the file says of its panels.

    Raises:
        Error: it cannot be written.
    """
    with cannot_write(path):
        check_kind(path, PNG_START)
    with cannot_write(path), atomic_path(path) as temporary:
        temporary.write_bytes(png(figure, dots, text))


def png(figure: Figure, dots: int = DOTS_PER_INCH, text: Callable[[], str] | None = None) -> bytes:
    """Return a figure as the content of a PNG; see `save_figure`."""
    figure.set_dpi(dots)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        canvas.draw()
    said = PngInfo()
    if text is not None:
        said.add_itxt(PANELS_KEY, text())
    content = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    image.save(content, "PNG", pnginfo=said, dpi=(dots, dots))
    return content.getvalue()

"""The panels of a figure as images of their own, and images as PNGs, for pages."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from msdtool.atomic import PNG_START
from msdtool.errors import ModelFileError
from msdtool.measure.comparisons import Array
from msdtool.plain_data import fits

PANELS_KEY = "msdtool panels"
"""Of the PNG's text that says where panels are: JSON, see `panels_text`."""
LABEL_COLOURS = "viridis"
FRAME = 2
"""Width of the line around a panel, which is left out, in pixels."""


class Panel(NamedTuple):
    """What a panel shows.

    Attributes:
        name: such as "input".
        note: its caption; "" for none.
        image: the content of a PNG; b"" if it is part of a figure.
    """

    name: str
    note: str = ""
    image: bytes = b""


class Preview(NamedTuple):
    """A figure of comparisons, in parts.

    Attributes:
        title: such as "best of 12, a.tif"; "" if that is not known.
        panels: its panels; a figure without known panels is one by itself.
        legend: the colour, as in HTML, and the text of each entry.
    """

    title: str
    panels: list[Panel]
    legend: list[tuple[str, str]]


def panels_text(figure: Figure, axes: Sequence[Axes], said: Preview) -> str:
    """Return where panels are in a figure that was drawn, and what it says.

    Returns:
        JSON: "title"; "panels", each with its name, its note, and its left, upper, right and lower
        border in pixels; "legend".
    """
    height = figure.bbox.height
    boxes = [axis.get_window_extent() for axis in axes]
    places = [
        [round(box.x0), round(height - box.y1), round(box.x1), round(height - box.y0)]
        for box in boxes
    ]
    panels = [
        [panel.name, panel.note, place] for panel, place in zip(said.panels, places, strict=True)
    ]
    return json.dumps({"title": said.title, "panels": panels, "legend": said.legend})


def cut(content: bytes, path: Path) -> Preview:
    """Return the panels of a figure that `save_comparisons` wrote.

    Raises:
        ModelFileError: it is not such a PNG.
    """
    damaged = ModelFileError(f"{path}: is not a PNG; remove it, or restore the file")
    if not content.startswith(PNG_START):
        raise damaged
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            said = getattr(image, "text", {}).get(PANELS_KEY)
            if said is None:
                return Preview("", [Panel("", "", content)], [])
            return _cut(image.convert("RGB"), json.loads(said))
    except (
        OSError,
        SyntaxError,  # Pillow, of damaged chunks
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ):
        raise damaged from None


def _cut(image: Image.Image, said: Any) -> Preview:
    """Cut a figure by what it says of itself; raise ValueError if that cannot be."""
    if not (fits(said, dict[str, Any]) and fits(said.get("panels"), list[Any])):
        raise ValueError("no panels")
    panels = []
    for name, note, (left, upper, right, lower) in said["panels"]:
        box = (left + FRAME, upper + FRAME, right - FRAME, lower - FRAME)
        if not (0 <= box[0] < box[2] <= image.width and 0 <= box[1] < box[3] <= image.height):
            raise ValueError("panels beyond the figure")
        panels.append(Panel(str(name), str(note), image_png(np.asarray(image.crop(box)))))
    legend = [(str(colour), str(text)) for colour, text in said.get("legend", [])]
    return Preview(str(said.get("title", "")), panels, legend)


def image_png(pixels: Array) -> bytes:
    """Return bytes [H, W] or [H, W, 3] as the content of a PNG, of greys if there is no colour."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG")
    return content.getvalue()


def grey_png(image: Array, window: tuple[float, float]) -> bytes:
    """Return an image as the content of a PNG.

    Args:
        image: [H, W], or [H, W, 3]; what is not finite becomes black.
        window: the values of black and of white.
    """
    low, high = window
    levels = np.clip((image - low) / (high - low), 0, 1)
    return image_png(np.rint(255 * np.nan_to_num(levels)).astype(np.uint8))


def label_png(image: Array, labels: Sequence[int]) -> bytes:
    """Return labels [H, W] as the content of a PNG, one colour each."""
    colours = colormaps[LABEL_COLOURS](np.linspace(0, 1, len(labels)), bytes=True)[:, :3]
    return image_png(colours[np.searchsorted(labels, image)])

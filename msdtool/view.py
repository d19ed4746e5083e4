"""Images of several kinds, such as inputs and results, compared on a page."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msdtool.data import ImageStack
from msdtool.errors import InputError
from msdtool.measure.comparisons import Array
from msdtool.progress import Progress, no_progress
from msdtool.report.html import save_html
from msdtool.report.panels import Panel, Preview, grey_png, label_png
from msdtool.wording import number, size_text

MAX_LABELS = 32
"""Integers of at most so many values are labels, where the images before have more."""
Window = tuple[float, float]


class Kind(NamedTuple):
    """Images of one kind.

    Attributes:
        name: what they are called, such as "input".
        images: 2D images; each slice of a volume is one.
    """

    name: str
    images: ImageStack


class _Shown(NamedTuple):
    """An image as it is drawn.

    Attributes:
        whole: [H, W] or [H, W, 3], reduced.
        factor: so many pixels, squared, became one.
        centre: its centre in full size; None if nothing was reduced, or sizes differ.
    """

    whole: Array
    factor: int
    centre: Array | None


def save_view(
    path: Path,
    kinds: Sequence[Kind],
    *,
    count: int = 12,
    size: int = 512,
    window: Window | None = None,
    progress: Progress = no_progress,
) -> None:
    """Write a page on which images are compared by a slider, see `msdtool.report.html.save_html`.

    Images of one file, or single images in one folder, are a section with a second slider. A large
    image is shown twice: reduced, by averages of squares of pixels, and its centre in full size.
    All kinds have the grey window of the last one, 0.5 to 99.5 percent of its values, unless their
    values lie elsewhere. Integers of few values are labels and get colours.

    Args:
        path: the HTML file.
        kinds: of images, paired in order.
        count: of images on the page, chosen evenly.
        size: of the larger side of what is shown of an image, in pixels.
        window: the values of black and of white.
        progress: called after each image.

    Raises:
        InputError: images cannot be read or paired.
        ConfigError: something else has the name.
        Error: the page cannot be written.
    """
    _check_counts(kinds)
    first = kinds[0].images
    total = len(first)
    chosen = [int(i) for i in np.unique(np.linspace(0, total - 1, min(count, total)).round())]
    sections: dict[range, list[int]] = {}
    for index in chosen:
        sections.setdefault(first.volume(index), []).append(index)
    pages, done = [], 0
    for volume, indices in sections.items():
        images = []
        for index in indices:
            alike = _check_sizes(kinds, index)
            images.append([_shown(kind.images, index, size, alike) for kind in kinds])
            done += 1
            progress(done, len(chosen))
        pages.append(_section(kinds, volume, indices, images, window))
    save_html(
        path,
        "view.html",
        title=", ".join(kind.name for kind in kinds),
        note=f"{len(chosen)} of {total} images" if len(chosen) < total else "",
        sections=pages,
    )


def _check_counts(kinds: Sequence[Kind]) -> None:
    first = kinds[0]
    for kind in kinds[1:]:
        if len(kind.images) != len(first.images):
            raise InputError(
                f"the number of images differs: {first.name} has {len(first.images)}, {kind.name} "
                f"{len(kind.images)}; each image needs its partner, in the same order"
            )


def _check_sizes(kinds: Sequence[Kind], index: int) -> bool:
    """Whether images have the same size; InputError if they cannot show the same field of view."""
    sizes = [kind.images.space(index) for kind in kinds]
    for kind, size in zip(kinds, sizes, strict=True):
        if not math.isclose(size[0] * sizes[0][1], size[1] * sizes[0][0], rel_tol=0.02):
            raise InputError(
                f"{kind.images.name(index)} has {size_text(size)} pixels, "
                f"{kinds[0].images.name(index)} {size_text(sizes[0])}; images that are compared "
                "show the same field of view"
            )
    return len(set(sizes)) == 1


def _shown(stack: ImageStack, index: int, size: int, with_centre: bool) -> _Shown:
    image = stack.read_array(index)
    flat: Array = np.moveaxis(image, 0, -1) if len(image) == 3 else image[len(image) // 2]
    height, width = flat.shape[:2]
    factor = math.ceil(max(height, width) / size)
    if factor == 1:
        return _Shown(flat, 1, None)
    if not with_centre:
        return _Shown(_reduced(flat, factor), factor, None)
    top, left = max(0, height - size) // 2, max(0, width - size) // 2
    return _Shown(_reduced(flat, factor), factor, flat[top : top + size, left : left + size])


def _reduced(image: Array, factor: int) -> Array:
    """Averages of squares of pixels; of what may be labels, their first pixels."""
    height, width = (max(1, side // factor) for side in image.shape[:2])
    if image.dtype.kind in "bui" and len(np.unique(image)) <= MAX_LABELS:
        return image[::factor, ::factor][:height, :width]
    rows, columns = (min(factor, side) for side in image.shape[:2])
    blocks = image[: height * rows, : width * columns].astype(np.float32)
    blocks = blocks.reshape(height, rows, width, columns, *image.shape[2:])
    found: Array = blocks.mean((1, 3))
    return found


def _section(
    kinds: Sequence[Kind],
    volume: range,
    indices: Sequence[int],
    images: Sequence[Sequence[_Shown]],
    window: Window | None,
) -> dict[str, Any]:
    """What the page shows of the images of one file or folder."""
    stack = kinds[0].images
    by_kind = list(zip(*images, strict=True))
    labels = [_labels(found) if number else [] for number, found in enumerate(by_kind)]
    windows = [window] * len(kinds) if window else _windows(by_kind, labels)
    groups: tuple[list[Preview], list[Preview]] = ([], [])
    for index, shown in zip(indices, images, strict=True):
        for centre in (False, True)[: 1 + (shown[0].centre is not None)]:
            panels = [
                _panel(kind.name, one, centre, window, values)
                for kind, one, window, values in zip(kinds, shown, windows, labels, strict=True)
            ]
            title = stack.name(index) + (", its centre in full size" if centre else "")
            groups[centre].append(Preview(title, panels, []))
    path = stack.paths[indices[0]]
    one_file = len({stack.paths[index] for index in volume}) == 1
    return {
        "name": str(path if one_file else path.parent),
        "groups": [group for group in groups if group],
    }


def _labels(images: Sequence[_Shown]) -> list[int]:
    """The values of labels; none if images are values."""
    if any(image.whole.dtype.kind not in "bui" or image.whole.ndim != 2 for image in images):
        return []
    found = np.unique(
        np.concatenate(
            [part.ravel() for i in images for part in (i.whole, i.centre) if part is not None]
        )
    )
    return [int(value) for value in found] if len(found) <= MAX_LABELS else []


def _windows(images: Sequence[Sequence[_Shown]], labels: Sequence[Sequence[int]]) -> list[Window]:
    """The grey window of each kind: that of the last one, if their medians lie in it."""
    values = [_finite(of_kind) for of_kind in images]
    own = [_window(found) for found in values]
    low, high = [window for window, found in zip(own, labels, strict=True) if not found][-1]
    return [
        (low, high) if found.size and low <= np.median(found) <= high else window
        for found, window in zip(values, own, strict=True)
    ]


def _finite(images: Sequence[_Shown]) -> Array:
    values = np.concatenate([image.whole.ravel() for image in images]).astype(np.float64)
    return values[np.isfinite(values)]


def _window(values: Array) -> Window:
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    return low, high if high > low else low + 1.0


def _panel(name: str, shown: _Shown, centre: bool, window: Window, labels: Sequence[int]) -> Panel:
    image = shown.centre if centre and shown.centre is not None else shown.whole
    if labels:
        return Panel(name, f"labels {labels[0]} to {labels[-1]}", label_png(image, labels))
    said = f"black {number(window[0])}, white {number(window[1])}"
    if shown.factor > 1 and not centre:
        said += f"; averages of {size_text((shown.factor, shown.factor))} pixels"
    return Panel(name, said, grey_png(image, window))

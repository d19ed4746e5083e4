"""What a file of images is, for people who look at it before they use it."""

from textwrap import shorten
from typing import Any

from msdtool.data.containers.registry import format_at
from msdtool.data.metadata import Metadata, Step
from msdtool.data.readers import arrangement, metadata, notes, pixel_type
from msdtool.specifier_grammar import Location

MAX_CHANNELS = 100
MAX_ATTRIBUTE = 60
"""Attributes whose text is longer are left out."""


def file_facts(location: Location, ndim: int = 2) -> dict[str, Any]:
    """Return what a file says about its array, plain data.

    Args:
        location: the file.
        ndim: number of spatial axes of an image, 2 or 3.

    Raises:
        InputError: it cannot be read as images, or holds several arrays; the message names them.
    """
    found = arrangement(location, ndim)
    says = metadata(location, ndim)
    return {
        "file": str(location),
        "format": format_at(location).name,
        "axes": found.axes,
        "shape": list(found.shape),
        "images": found.num_images,
        "dtype": pixel_type(location).name,
        "pixels": {letter: _step(step) for letter, step in says.steps.items()},
        "channels": [shorten(name, MAX_ATTRIBUTE) for name in says.channels[:MAX_CHANNELS]],
        "convention": says.convention or None,
        "geographic_tags": [tag.code for tag in says.tags],
        "attributes": _plain(says),
        "notes": list(notes(location, ndim)),
    }


def _step(step: Step) -> dict[str, Any]:
    return step._asdict()


def _plain(says: Metadata) -> dict[str, str]:
    texts = {
        name: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for name, value in says.attributes.items()
    }
    return {
        name: text for name, text in texts.items() if max(len(name), len(text)) <= MAX_ATTRIBUTE
    }

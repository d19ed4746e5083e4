"""Phrases that messages and tables share: what is allowed or may be meant, sizes, numbers."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def nearest(found: Any, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that may have been meant, or None if none is close."""
    by_lower = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(str(found).lower(), list(by_lower), n=1)
    return by_lower[close[0]] if close else None


def choices(found: Any, allowed: Sequence[str]) -> str:
    """Return the end of a message: what is allowed, and which of it may have been meant."""
    if found in allowed:
        # Quoted in the YAML: '2' is a string.
        return f"; allowed: {', '.join(allowed)}, without quotes"
    name = nearest(found, allowed)
    meant = "; allowed" if name is None else f"; did you mean {name!r}? Allowed"
    return f"{meant}: {', '.join(allowed)}"


def size_text(size: Sequence[int]) -> str:
    """Return a size as people write it: 512 x 512."""
    return " x ".join(map(str, size))


def perhaps_opacity(found: int, expected: int) -> str:
    """Return the end of a message about an image's channels: what one beside colours may be."""
    if (found, expected) in ((2, 1), (4, 3)):
        return (
            "; if its last channel is opacity, save the image without it, otherwise with the "
            "channels that the network takes"
        )
    if (found, expected) in ((1, 2), (3, 4)):
        return "; if the last channel of the training images is opacity, save these without it"
    return ""


def number(value: Any) -> str:
    """A number rounded for people; anything else as it is."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def readable(value: Any) -> str:
    """A value of a config or of a model in words: lists without brackets, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {readable(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(readable, value)) or "none"
    return "none" if value is None else number(value)


def bounds(interval: Sequence[float | None]) -> str:
    """An interval, such as "25.1 to 26.4"; nothing if it is not known."""
    known = [number(value) for value in interval if value is not None and not math.isnan(value)]
    return " to ".join(known) if len(known) == len(interval) else ""

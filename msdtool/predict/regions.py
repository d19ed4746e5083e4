"""A part of each image or volume, computed from what its pixels depend on and no more."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from msdtool.architecture import Architecture
from msdtool.data.axes import Arrangement
from msdtool.data.interfaces import Stack
from msdtool.data.patches import Window
from msdtool.errors import ConfigError, InputError

RANGE = re.compile(r"(\d*):(\d*)")
LETTERS = "ZYX"


class Cut(NamedTuple):
    """Where a region lies in an image.

    Attributes:
        window: what is read and computed, per spatial axis.
        within: the region's place in that window.
    """

    window: tuple[slice, ...]
    within: tuple[slice, ...]


@dataclass(frozen=True)
class Region:
    """Ranges of slices, rows and columns, counted from 0; the first is included, the last not.

    Attributes:
        ranges: start and stop by the letter of the axis; None: to the end of the axis.
    """

    ranges: Mapping[str, tuple[int, int | None]]

    @classmethod
    def parse(cls, region: str | None = None, slices: str | None = None) -> "Region | None":
        """Read a region as the command line gives it; None if it gives none.

        Args:
            region: a range START:STOP for each of the last axes, such as "0:50,100:300,:".
            slices: a range of slices alone.

        Raises:
            ConfigError: it is not a region.
        """
        if region is not None and slices is not None:
            raise ConfigError("region: names slices, too; leave slices out", hint_key="slices")
        if slices is not None:
            return cls({"Z": _parse_range(slices, "slices")})
        if region is None:
            return None
        parts = region.split(",")
        if len(parts) not in (2, 3):
            raise ConfigError(
                f"region: got {region!r}; expected ranges of rows and columns, such as "
                "100:300,0:500, or of slices, rows and columns, such as 0:50,100:300,:",
                hint_key="region",
            )
        letters = LETTERS[-len(parts) :]
        return cls(
            {
                letter: _parse_range(part, "region")
                for letter, part in zip(letters, parts, strict=True)
            }
        )

    def __str__(self) -> str:
        """The region as it is given."""
        return ",".join(
            f"{start}:{'' if stop is None else stop}" for start, stop in self.ranges.values()
        )

    def images(self, found: Arrangement, name: str) -> range:
        """Return which images of a file are in the region.

        Raises:
            InputError: the file has no such slices, or its images have several axes.
        """
        if "Z" not in self.ranges or "Z" in found.space:
            return range(found.num_images)
        if len(found.counting) != 1:
            held = "one image" if not found.counting else "images along several axes"
            raise InputError(f"{name}: holds {held}, so slices cannot be selected")
        return self._range("Z", found.num_images, name)

    def cut(self, letters: str, space: Sequence[int], reach: int | None, name: str) -> Cut:
        """Return where the region lies in an image.

        Args:
            letters: of its spatial axes.
            space: its size.
            reach: how far from a pixel others change it; None: that is not known, and the whole
                image is computed.
            name: what messages call it.

        Raises:
            InputError: the image ends before the region does.
        """
        windows, places = [], []
        for letter, size in zip(letters, space, strict=True):
            wanted = self._range(letter, size, name)
            start, stop = 0, size
            if reach is not None:
                start, stop = max(0, wanted.start - reach), min(size, wanted.stop + reach)
            windows.append(slice(start, stop))
            places.append(slice(wanted.start - start, wanted.stop - start))
        return Cut(tuple(windows), tuple(places))

    def size(self, letters: str, space: Sequence[int], name: str) -> tuple[int, ...]:
        """Return the region's size in an image, see `cut`."""
        within = self.cut(letters, space, None, name).within
        return tuple(part.stop - part.start for part in within)

    def _range(self, letter: str, size: int, name: str) -> range:
        start, stop = self.ranges.get(letter, (0, None))
        stop = size if stop is None else stop
        if not start < stop <= size:
            raise InputError(
                f"{name}: has {size} pixels along {letter}, counted from 0; the region "
                f"{start}:{stop} does not lie in it"
            )
        return range(start, stop)

    @property
    def starts(self) -> dict[str, int]:
        """The first pixel along each axis that is cut."""
        return {letter: start for letter, (start, _) in self.ranges.items()}


def reach(architecture: Architecture) -> int | None:
    """How far from an output pixel input pixels change it; None: not known, or everywhere."""
    parts = architecture.stream, architecture.outer, architecture.hidden
    if any(part is not None for part in parts):
        return None
    dilations, depth = architecture.dilations, architecture.depth
    return sum(dilations[layer % len(dilations)] for layer in range(depth))


class RegionStack:
    """The images of a stack, each without what the pixels of a region do not depend on.

    Args:
        stack: the images.
        region: the part of each.
        letters: of their spatial axes.
        reach: see `Region.cut`.
    """

    def __init__(self, stack: Stack, region: Region, letters: str, reach: int | None) -> None:
        self.stack, self.region, self.letters, self.reach = stack, region, letters, reach
        self.name, self.volume, self.surroundings = stack.name, stack.volume, stack.surroundings

    def __len__(self) -> int:
        return len(self.stack)

    def _window(self, index: int) -> tuple[slice, ...]:
        space, name = self.stack.space(index), self.name(index)
        return self.region.cut(self.letters, space, self.reach, name).window

    def space(self, index: int) -> tuple[int, ...]:
        """The size of what is read of an image."""
        return tuple(part.stop - part.start for part in self._window(index))

    def read(self, index: int, window: Window | None = None) -> Tensor:
        """Read that part of an image, or a window of the part."""
        parts = self._window(index)
        if window is None:
            return self.stack.read(index, parts)
        inner = (
            part.indices(whole.stop - whole.start)
            for part, whole in zip(window, parts, strict=True)
        )
        moved = zip(inner, parts, strict=True)
        return self.stack.read(
            index,
            tuple(
                slice(whole.start + start, whole.start + stop) for (start, stop, _), whole in moved
            ),
        )


def cropped(
    output: Tensor, start: int, axis: int, within: Sequence[slice]
) -> tuple[Tensor, int] | None:
    """Cut slices of a window's output to the region.

    Args:
        output: [C, *space], complete along all spatial axes but one.
        start: the first slice.
        axis: this axis.
        within: the region's place in the output of the whole window.

    Returns:
        The part in the region, and its first slice there; None if there is none.
    """
    count = output.shape[1 + axis]
    first, last = (
        min(max(edge - start, 0), count) for edge in (within[axis].start, within[axis].stop)
    )
    if first == last:
        return None
    key = [slice(None), *within]
    key[1 + axis] = slice(first, last)
    return output[tuple(key)], start + first - within[axis].start


def _parse_range(text: str, key: str) -> tuple[int, int | None]:
    found = RANGE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"{key}: got {text!r}; expected START:STOP, such as 100:200, 100: or :200; counted "
            "from 0, without the last",
            hint_key=key,
        )
    start, stop = int(found[1] or 0), int(found[2]) if found[2] else None
    if stop is not None and stop <= start:
        raise ConfigError(f"{key}: {text} is empty", hint_key=key)
    return start, stop

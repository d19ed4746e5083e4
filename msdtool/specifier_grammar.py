"""The grammar of path specifiers: what people write to name their images, taken apart as text.

A specifier is a path, a glob pattern (``**`` matches any number of folders), a folder, or a list
of these. ``@list.txt`` stands for the lines of a text file, ``scan.h5::/entry/data`` for an array
in a file, ``~`` for the home directory. A `Source` adds what a file does not record: its axes, and
the shape and dtype of a raw file.

Everything that gives a character of a specifier a meaning is in this file. No file is opened here;
`msdtool.data.specifiers.expand` finds the files.
"""

import glob
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

INNER = "::"
"""Separates a file from the path of an array in it."""
LIST = "@"
"""Precedes the name of a text file with one specifier per line."""
HOME = "~"


@dataclass(frozen=True, slots=True)
class Source:
    """Images, and what their files do not record.

    Attributes:
        path: a path, glob, folder or list of these; a `Location` stands for itself.
        axes: a letter per axis of each array, such as "ZCYX"; see `msdtool.data.axes`.
        shape: of raw files, which contain nothing but pixels.
        dtype: of raw files, such as "uint16", or ">u2" for big-endian.
    """

    path: "str | Path | Sequence[str | Path | Location]"
    _: KW_ONLY
    axes: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Location(Source):
    """A source that is exactly one file, or one array in a file.

    Attributes:
        path: the file, or the folder of a zarr store.
        inner: the path of the array in it; empty if not given.
    """

    path: Path
    inner: str = ""

    def __str__(self) -> str:
        return f"{self.path}{INNER}{self.inner}" if self.inner else str(self.path)


Specifier = str | Path | Sequence[str | Path | Location] | Source


class Item(NamedTuple):
    """One item of a specifier.

    Attributes:
        path: a path or glob pattern, ``~`` not yet expanded.
        inner: the path of an array in the files; None if not given.
        is_list: ``path`` is a text file with one specifier per line.
    """

    path: str
    inner: str | None = None
    is_list: bool = False


def parse_item(text: str) -> Item:
    """Take one item of a specifier apart."""
    if text.startswith(LIST):
        return Item(text.removeprefix(LIST), is_list=True)
    path, separator, inner = text.partition(INNER)
    return Item(path, _without_dots(inner) if separator else None)


def _without_dots(inner: str) -> str:
    """The path of an array as HDF5 understands it: empty parts and single dots mean nothing."""
    root = "/" if inner.startswith("/") else ""
    return root + "/".join(part for part in inner.split("/") if part not in ("", "."))


def is_pattern(path: str | Path) -> bool:
    """Whether a path contains characters with a meaning in glob patterns."""
    return glob.has_magic(str(path))


def anchor(text: str, folder: Path) -> str:
    """Return one item of a specifier with its relative path made relative to ``folder``.

    Args:
        text: the item; absolute paths and those that start with ``~`` stay as they are.
        folder: the folder; brackets and stars in its own name never become part of a pattern.
    """
    if text.startswith(LIST):
        return LIST + anchor(text.removeprefix(LIST), folder)
    if not text or text.startswith(HOME):
        return text
    if is_pattern(text) and not (folder / text).exists():
        folder = Path(glob.escape(str(folder)))
    return str(folder / text)


def detach(text: str, folder: Path) -> str:
    """Return one item of a specifier relative to ``folder``, as `anchor` takes it.

    Items that are not absolute stay as they are.
    """
    if text.startswith(LIST):
        return LIST + detach(text.removeprefix(LIST), folder)
    if not Path(text).is_absolute():
        return text
    names = str(folder), glob.escape(str(folder))
    return min((os.path.relpath(text, name) for name in names), key=len)


def anchor_path(text: str, folder: Path) -> str:
    """Return a plain path, in which only ``~`` has a meaning, made relative to ``folder``."""
    return text if not text or text.startswith(HOME) else str(folder / text)


def without_folder(name: str) -> str:
    """The name of an image in messages without the folder of its file: "a.h5::/data[3]"."""
    file, inner, array = name.partition(INNER)
    return f"{Path(file).name}{inner}{array}"

"""Specifiers to files: what people write to name their images.

A specifier is a path, a glob pattern (``**`` matches any number of folders), a folder, or a list
of these. ``@list.txt`` stands for the lines of a text file; ``scan.h5::/entry/data`` is a dataset
in a file. A `Source` adds what a file does not say itself: its axes, and a raw file's shape.
"""

import fnmatch
import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from natsort import natsort_keygen, natsorted, ns

from msdtool.data.containers.zarr import is_zarr
from msdtool.errors import InputError

INNER = "::"


@dataclass(frozen=True)
class Source:
    """Images, and what their files do not say.

    Attributes:
        path: a path, glob, folder or list of these; locations that were found before stay.
        axes: a letter per axis of each array, such as "ZCYX"; see `msdtool.data.axes`.
        shape: of raw files, which hold nothing but pixels.
        dtype: of raw files, such as "uint16", or ">u2" if the bytes are in the other order.
    """

    path: "str | Path | Sequence[str | Path | Location]"
    axes: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """One file, or one array in a file, and how to read it.

    Attributes:
        path: the file, or a zarr store's folder.
        inner: the array's path in it.
        axes, shape, dtype: see `Source`.
    """

    path: Path
    inner: str = ""
    axes: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    def __str__(self) -> str:
        return f"{self.path}{INNER}{self.inner}" if self.inner else str(self.path)


Specifier = str | Path | Sequence[str | Path | Location] | Source


def expand(specifier: Specifier) -> list[Location]:
    """Return the files that a specifier names, each item's in natural order.

    ``~`` is expanded and links are followed. A path that exists is taken as it is, even if it holds
    characters that have a meaning here. A folder stands for the files in it that are not hidden.
    The files are listed, not opened.

    Raises:
        InputError: an item names no file.
    """
    source = specifier if isinstance(specifier, Source) else Source(specifier)
    items = [source.path] if isinstance(source.path, (str, Path)) else list(source.path)
    if not items:
        raise InputError("the list of input paths is empty; name at least one file")
    try:
        return [location for item in items for location in _locate(item, source)]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _locate(item: str | Path | Location, source: Source) -> Iterable[Location]:
    if isinstance(item, Location):
        return [item]
    return (
        Location(path, inner, source.axes, source.shape, source.dtype)
        for path, inner in _expand_item(item)
    )


def _expand_item(item: str | Path) -> Iterable[tuple[Path, str]]:
    path = Path(item).expanduser()
    if path.is_dir() and not is_zarr(path):
        files = [Path(entry.path) for entry in os.scandir(path) if _is_image_file(entry)]
        if not files:
            raise InputError(f"{path}: the folder holds no files")
        return ((file, "") for file in _in_natural_order(files))
    if path.exists():
        return [(path, "")]
    if isinstance(item, str) and item.startswith("@"):
        return _listed(Path(item[1:]).expanduser())
    if isinstance(item, str) and INNER in item:
        outer, _, inner = item.partition(INNER)
        if not inner.strip("/"):
            raise InputError(f"{item}: expected a dataset's path after ::, as in scan.h5::/data")
        return [(file, inner) for file, _ in _expand_item(outer)]
    if glob.has_magic(str(path)):
        files = _matches(str(path))
        if not files:
            raise InputError(f"{item}: no file matches{_nearest_folder(path)}")
        return ((file, "") for file in _in_natural_order(files))
    raise InputError(f"{path}: no such file or folder{_nearest_folder(path)}")


def _listed(path: Path) -> list[tuple[Path, str]]:
    """The files that the lines of a text file name; relative ones count from its folder."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file with a path per line") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{_nearest_folder(path)}") from None
    found: list[tuple[Path, str]] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            raise InputError(f"{path}:{number}: {line}: a list cannot name another list")
        try:
            found += _expand_item(line if line.startswith("~") else str(path.parent / line))
        except InputError as error:
            raise InputError(f"{path}:{number}: {error.message}") from None
    if not found:
        raise InputError(f"{path}: the list names no file")
    return found


def _matches(pattern: str) -> list[Path]:
    """The files that a glob pattern matches.

    Listing a folder tells which entries are files; asking for each would take a round trip per
    file on a network disk.
    """
    folder, name = os.path.split(pattern)
    if not glob.has_magic(name) or name == "**":
        matches = map(Path, glob.iglob(pattern, recursive=True))
        return [path for path in matches if path.is_file() or is_zarr(path)]
    folders = glob.iglob(folder, recursive=True) if glob.has_magic(folder) else [folder]
    files = []
    for found in folders:
        if not Path(found or ".").is_dir():
            continue
        with os.scandir(found or ".") as entries:
            files += [
                Path(found, entry.name)
                for entry in entries
                if fnmatch.fnmatch(entry.name, name) and _is_image_file(entry)
            ]
    return files


def _is_image_file(entry: "os.DirEntry[str]") -> bool:
    if entry.name.startswith("."):
        return False
    return entry.is_file() or (entry.is_dir() and is_zarr(Path(entry.path)))


def _in_natural_order(files: list[Path]) -> list[Path]:
    """Sort by folder, then name: scan2 before scan10, scan.tif before scan_1.tif."""
    of_text, of_folder = natsort_keygen(), lru_cache(None)(natsort_keygen(alg=ns.PATH))

    def key(file: Path) -> tuple[object, ...]:
        return of_folder(str(file.parent)), of_text(file.stem), file.suffix

    return sorted(files, key=key)


def _nearest_folder(path: Path) -> str:
    """Say where a path stops being right, so that the mistake can be seen."""
    folder = path.parent
    while not folder.is_dir():
        if folder == folder.parent or glob.has_magic(folder.name):
            return ""
        missing, folder = folder, folder.parent
        if folder.is_dir():
            return f"; the folder {folder} has no {missing.name!r} in it"
    names = natsorted(file.name for file in folder.iterdir())
    if not names:
        return f"; the folder {folder} is empty"
    return f"; the folder {folder} holds {len(names)} others, such as {names[0]}"

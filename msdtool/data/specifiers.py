"""Specifiers to files; `msdtool.specifier_grammar` describes what people write."""

import codecs
import fnmatch
import glob
import logging
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from natsort import natsort_keygen, natsorted, ns

from msdtool.data.bystanders import is_bystander
from msdtool.data.containers.registry import is_image_name, stem_of, suffix_of
from msdtool.data.containers.zarr import is_zarr
from msdtool.errors import InputError
from msdtool.file_errors import cannot_read, expand_home
from msdtool.special_files import read_start
from msdtool.specifier_grammar import (
    LIST,
    Location,
    Source,
    Specifier,
    anchor,
    is_pattern,
    parse_item,
)

__all__ = ["Location", "Source", "Specifier", "expand"]

MAX_NAMED = 3
MAX_LIST_BYTES = 100_000_000
Entry = Path | os.DirEntry[str]
log = logging.getLogger(__name__)


class NoImagesError(InputError):
    """A folder, or a pattern in a folder, names no image; one may still come."""


def expand(specifier: Specifier) -> list[Location]:
    """Return the files that a specifier names, those of each item in natural order.

    ``~`` is expanded and links are followed. A path that exists is used as it is, even if it
    contains characters that have a meaning in a specifier. A folder stands for the files in it,
    and a pattern for those that it matches, that are neither hidden nor known to be no images, see
    `msdtool.data.bystanders`, unless the pattern itself says so. The files are listed, not opened.

    Raises:
        InputError: an item names no file, or among the files is a link to one that is not there.
    """
    source = specifier if isinstance(specifier, Source) else Source(specifier)
    if isinstance(source, Location):
        return [source]
    items = [source.path] if isinstance(source.path, (str, Path)) else list(source.path)
    if not items:
        raise InputError("the list of input paths is empty; name at least one file")
    with cannot_read(None, InputError):
        return [location for item in items for location in _locate(item, source)]


def _locate(item: str | Path | Location, source: Source) -> Iterable[Location]:
    if isinstance(item, Location):
        return [item]
    return (
        Location(path, inner, axes=source.axes, shape=source.shape, dtype=source.dtype)
        for path, inner in _expand_item(item)
    )


def _folders_in(path: Path) -> str:
    """What to name instead of a folder that holds folders."""
    with os.scandir(path) as entries:
        names = sorted(one.name for one in entries if one.is_dir() and not one.name.startswith("."))
    if not names:
        return ""
    more = ", ..." if len(names) > MAX_NAMED else ""
    return f", but the folders {', '.join(names[:MAX_NAMED])}{more}; name one of them"


def _expand_item(item: str | Path) -> Iterable[tuple[Path, str]]:
    """The files that an item names, and the path of the array in each, empty if not given."""
    path = expand_home(item, InputError)
    log.debug(f"{path}: looks for images")
    if path.is_dir() and not is_zarr(path):
        with os.scandir(path) as entries:
            files = _image_files(path / "*", entries)
        if not files:
            raise NoImagesError(f"{path}: the folder holds no images{_folders_in(path)}")
        return ((file, "") for file in _in_natural_order(files))
    if path.exists():
        return [(path, "")]
    if isinstance(item, str):
        outer, inner, is_list = parse_item(item)
        if is_list:
            return _listed(expand_home(outer, InputError))
        if inner is not None:
            if not inner.strip("/"):
                raise InputError(
                    f"{item}: expected a dataset's path after ::, as in scan.h5::/data"
                )
            return [(file, inner) for file, _ in _expand_item(outer)]
    if is_pattern(path):
        matches = list(_matches(str(path)))
        files = _image_files(path, matches)
        if not files:
            folders = [Path(entry) for entry in matches if entry.is_dir()]
            if folders:
                raise InputError(
                    f"{item}: matches folders, such as {folders[0]}, and no image; name a folder "
                    f"itself, or the images in them: {item}/*"
                )
            kind = NoImagesError if path.parent.is_dir() or is_pattern(path.parent) else InputError
            raise kind(f"{item}: no image matches{_nearest_folder(path)}")
        return ((file, "") for file in _in_natural_order(files))
    _check_link(path)
    raise InputError(f"{path}: no such file or folder{_nearest_folder(path)}")


def _listed(path: Path) -> list[tuple[Path, str]]:
    """The files that the lines of a text file name; relative paths are relative to its folder."""
    found: list[tuple[Path, str]] = []
    for number, line in enumerate(map(str.strip, _lines(path)), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith(LIST):
            raise InputError(f"{path}:{number}: {line}: a list cannot name another list")
        try:
            found += _expand_item(anchor(line, path.parent))
        except InputError as error:
            raise InputError(f"{path}:{number}: {error.message}") from None
    if not found:
        raise InputError(f"{path}: the list names no file")
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8 or, as PowerShell writes it, UTF-16."""
    if not path.exists():
        raise InputError(f"{path}: no such file{_nearest_folder(path)}")
    try:
        with cannot_read(path, InputError):
            content = read_start(path, MAX_LIST_BYTES + 1)
        if len(content) > MAX_LIST_BYTES:
            raise InputError(
                f"{path}: is larger than {MAX_LIST_BYTES // 10**6} MB, too large for a list"
            )
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
        if "\0" in text:  # no file is called so
            raise UnicodeError
        return text.splitlines()
    except UnicodeError:
        raise InputError(f"{path}: is not a text file with one path per line") from None


def _matches(pattern: str) -> Iterator[Entry]:
    """What a glob pattern matches.

    Listing a folder also tells which entries are files; asking for each of them would take a round
    trip per file on a network disk.
    """
    folder, name = os.path.split(pattern)
    if name == "**":
        for found in _folders(pattern):
            with os.scandir(found or ".") as entries:
                yield from entries
        return
    for found in _folders(folder):
        place = Path(found or ".")
        if not place.is_dir():
            _check_folder_link(place)
        elif not is_pattern(name):
            yield from [place / name] if os.path.lexists(place / name) else []
        else:
            with os.scandir(found or ".") as entries:
                yield from (entry for entry in entries if fnmatch.fnmatch(entry.name, name))


def _folders(pattern: str) -> Iterator[str]:
    """What a pattern of folders matches; "" for the current one."""
    if not is_pattern(pattern):
        yield pattern
        return
    above, name = os.path.split(pattern)
    for folder in _folders(above):
        if not Path(folder).is_dir():
            _check_folder_link(Path(folder))
        elif name != "**":
            yield from glob.iglob(str(Path(glob.escape(folder), name)))
        else:
            yield from _below(folder)


def _below(folder: str) -> Iterator[str]:
    """A folder and all below that are not hidden; a link to one of those above is not followed.

    Through such links, glob finds each file again and again, up to forty links deep.
    """
    places: list[tuple[str, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while places:
        place, above = places.pop()
        state = Path(place).stat()
        identity = state.st_dev, state.st_ino
        if identity in above:
            continue
        yield place
        with os.scandir(place or ".") as entries:
            names = [item.name for item in entries if item.name[0] != "." and _is_folder(item)]
        within = above | {identity}
        places += [(str(Path(place, name)), within) for name in names]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        _check_folder_link(Path(entry))
    return entry.is_dir()


def _image_files(pattern: Path, entries: Iterable[Entry]) -> list[Path]:
    """Those of the entries that match a pattern that are images; the log names the others."""
    files, others = [], []
    are_asked_for = is_bystander(pattern.name) or not is_pattern(pattern.name)
    for entry in entries:
        if is_pattern(pattern.name) and entry.name.startswith("."):
            continue
        if is_bystander(entry.name) and not are_asked_for:
            others.append(entry.name)
        elif entry.is_file() or (entry.is_dir() and is_zarr(Path(entry))):
            files.append(Path(entry))
        elif not entry.is_dir():
            _check_link(Path(entry))
            files.append(Path(entry))  # a pipe or the like, which reading refuses
    if others:
        more = f" ... ({len(others)} files)" if len(others) > MAX_NAMED else ""
        names = ", ".join(natsorted(others)[:MAX_NAMED])
        log.info(f"{pattern.parent}: ignored files that are not images: {names}{more}")
    return files


def _check_folder_link(path: Path) -> None:
    """Raise InputError if a path is a link to nothing, whose name is not that of a file."""
    if not (is_image_name(path) or is_bystander(path.name)):
        _check_link(path)


def _check_link(path: Path) -> None:
    """Raise InputError if a path is a link to what is not there."""
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{path}: is a link to {path.readlink()}, which is not there; fetch that file or "
            "connect its disk, or remove the link"
        )


def _in_natural_order(files: list[Path]) -> list[Path]:
    """Sort by folder, then name: scan2 before scan10, scan.tif before scan_1.tif."""
    of_text, of_folder = natsort_keygen(), lru_cache(None)(natsort_keygen(alg=ns.PATH))

    def key(file: Path) -> tuple[object, ...]:
        return of_folder(str(file.parent)), of_text(stem_of(file)), suffix_of(file)

    return sorted(files, key=key)


def _nearest_folder(path: Path) -> str:
    """Say where a path goes wrong, so that the mistake is easy to see."""
    folder = path.parent
    while not folder.is_dir():
        if folder == folder.parent or is_pattern(folder.name):
            return ""
        missing, folder = folder, folder.parent
        if folder.is_dir():
            return f"; the folder {folder} has no {missing.name!r} in it"
    names = natsorted(file.name for file in folder.iterdir())
    if not names:
        return f"; the folder {folder} is empty"
    return f"; the folder {folder} holds {len(names)} others, such as {names[0]}"

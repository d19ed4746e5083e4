"""Other files that hold the pixels of an HDF5 dataset; where one is missing, HDF5 reads zeros."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msdtool.errors import InputError
from msdtool.special_files import refuse_special

Seen = set[tuple[str, str]]
"""Files, and the datasets in them, that have been checked; raw files have none."""


def check_sources(h5py: Any, path: Path, dataset: Any) -> list[Path]:
    """Check that all pixels of a dataset are there; HDF5's variables for folders count.

    Args:
        h5py: the package.
        path: the file that was asked for, for messages.
        dataset: the dataset, in this file or in one that leads to it.

    Returns:
        The files that they lie in.

    Raises:
        InputError: a source of a virtual dataset, at any depth, or a raw file is missing, or a raw
            file is too short.
        OSError: a raw file is a pipe or a device.
    """
    seen: Seen = set()
    _check_once(h5py, path, dataset, seen)
    return [Path(name) for name in sorted({file for file, _ in seen})]


def _check(h5py: Any, path: Path, dataset: Any, seen: Seen) -> None:
    if dataset.is_virtual:
        for file, name in {(item.file_name, item.dset_name) for item in dataset.virtual_sources()}:
            for number in _numbers(h5py, path, dataset, file, name):
                source = _numbered(file, number), _numbered(name, number)
                _check_source(h5py, path, dataset, source, seen)
    elif dataset.external:
        _check_raw_files(path, dataset, seen)


def _check_source(h5py: Any, path: Path, dataset: Any, source: tuple[str, str], seen: Seen) -> None:
    file, name = source
    if file == ".":
        found = _dataset(h5py, dataset.file, name)
        if found is None:
            raise InputError(_missing(path, dataset, file, name))
        _check_once(h5py, path, found, seen)
        return
    place = next((place for place in _places(dataset, file) if place.is_file()), None)
    if place is None:
        raise InputError(_missing(path, dataset, file, name))
    with h5py.File(place, "r") as other:
        found = _dataset(h5py, other, name)
        if found is None:
            raise InputError(_missing(path, dataset, file, name))
        _check_once(h5py, path, found, seen)


def _check_once(h5py: Any, path: Path, dataset: Any, seen: Seen) -> None:
    key = dataset.file.filename, dataset.name
    if key not in seen:
        seen.add(key)
        _check(h5py, path, dataset, seen)


def _missing(path: Path, dataset: Any, file: str, name: str) -> str:
    return (
        f"{path}::{dataset.name}: a virtual dataset whose source {name} in the file {file} "
        f"is missing; HDF5 would read zeros there: copy it beside {dataset.file.filename}"
    )


def _dataset(h5py: Any, file: Any, name: str) -> Any:
    """A dataset; None for what is none, and for a link that leads nowhere."""
    try:
        found = file.get(name)
    except (KeyError, OSError, RuntimeError, ValueError):
        return None
    return found if isinstance(found, h5py.Dataset) else None


def _places(dataset: Any, file: str) -> Iterator[Path]:
    """Where HDF5 looks for a source: see H5Pset_virtual_prefix in its manual."""
    home = Path(dataset.file.filename)  # a link may have led to another file
    name = Path(file)
    if name.is_absolute():
        yield name
        name = Path(name.name)
    prefixes = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", str(home.parent))
    yield from (Path(prefix, name) for prefix in prefixes.split(os.pathsep) if prefix)
    yield from (home.parent / name, name, home.resolve().parent / name)


def _numbers(h5py: Any, path: Path, dataset: Any, file: str, name: str) -> list[int]:
    """The numbers of the sources that a pattern stands for; [0] where there is no pattern.

    HDF5 ends the dataset before the first source that is missing. Those after the last one may
    still come, but none is missing in between.
    """
    if not _is_pattern(file + name):
        return [0]
    if _is_pattern(file):
        places = [str(place) for place in _places(dataset, file)]
        names = [(one, found) for one in places for found in glob.iglob(_with_numbers(one, "*"))]
    else:
        names = [(name.strip("/"), found) for found in _dataset_names(h5py, dataset, file, name)]
    numbers = {
        int(match[1])
        for pattern, found in names
        if (match := re.fullmatch(_with_numbers(pattern, r"(\d+)"), found))
    }
    if not numbers:
        raise InputError(_missing(path, dataset, file, name))
    gaps = sorted(set(range(max(numbers))) - numbers)
    if gaps:
        raise InputError(
            _missing(path, dataset, _numbered(file, gaps[0]), _numbered(name, gaps[0]))
        )
    return sorted(numbers)


def _dataset_names(h5py: Any, dataset: Any, file: str, name: str) -> list[str]:
    """The names beside a source that a pattern stands for."""
    group = name.strip("/").rpartition("/")[0] or "/"
    prefix = "" if group == "/" else f"{group}/"
    if file == ".":
        return [prefix + found for found in dataset.file.get(group) or ()]
    place = next((place for place in _places(dataset, file) if place.is_file()), None)
    if place is None:
        return []
    with h5py.File(place, "r") as other:
        return [prefix + found for found in other.get(group) or ()]


def _is_pattern(name: str) -> bool:
    """Whether a name has a %b, which stands for a number; %% stands for %."""
    return "%b" in name.replace("%%", "")


def _numbered(pattern: str, number: int) -> str:
    return pattern.replace("%%", "\0").replace("%b", str(number)).replace("\0", "%")


def _with_numbers(pattern: str, number: str) -> str:
    """A glob pattern, or if ``number`` has a group a regular expression, for a pattern's names."""
    escape = glob.escape if number == "*" else re.escape
    parts = pattern.replace("%%", "\0").split("%b")
    first, *others = [escape(part.replace("\0", "%")) for part in parts]
    # Each further %b is the same number.
    same = number if number == "*" else r"\1"
    return first + "".join((same if index else number) + part for index, part in enumerate(others))


def _check_raw_files(path: Path, dataset: Any, seen: Seen) -> None:
    home = Path(dataset.file.filename)
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(home.parent))
    folder = Path(prefix)
    left = dataset.nbytes
    for name, offset, size in dataset.external:
        count = min(size, left)
        left -= count
        place, needed = folder / name, offset + count
        if not place.exists():
            raise InputError(
                f"{path}::{dataset.name}: its pixels lie in the file {place}, which is missing; "
                "start in the folder of that file, or name the folder in HDF5_EXTFILE_PREFIX"
            )
        status = place.stat()
        refuse_special(status)
        seen.add((str(place), ""))
        if status.st_size < needed:
            raise InputError(
                f"{path}::{dataset.name}: its pixels lie in the file {place}, which has "
                f"{status.st_size} bytes instead of {needed}; HDF5 would read zeros there: copy "
                "the whole file"
            )

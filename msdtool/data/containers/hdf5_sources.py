"""Other files that hold the pixels of an HDF5 dataset; where one is missing, HDF5 reads zeros."""

import os
from pathlib import Path
from typing import Any

from msdtool.errors import InputError
from msdtool.special_files import refuse_special

PREFIXES = ("HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX")
"""HDF5's variables for the folders of sources and of raw files."""


def check_sources(h5py: Any, path: Path, dataset: Any) -> None:
    """Check that all pixels of a dataset are there; HDF5's variables for folders count.

    Raises:
        InputError: a source of a virtual dataset, or a raw file, is missing or too short.
        OSError: a raw file is a pipe or a device.
    """
    if dataset.is_virtual:
        _check_virtual(h5py, path, dataset)
    elif dataset.external:
        _check_raw_files(path, dataset)


def source_files(dataset: Any) -> list[Path]:
    """All files that the pixels of a dataset lie in, of those that are there."""
    home = Path(dataset.file.filename)
    names = (
        {source.file_name for source in dataset.virtual_sources()} if dataset.is_virtual else set()
    )
    names |= {name for name, *_ in dataset.external or ()}
    folders = (home.parent, Path(), *(f for v in PREFIXES if (f := _folder(v, home)) is not None))
    places = {folder / name for name in names - {"."} for folder in folders}
    return [home, *sorted(place for place in places if place.is_file())]


def _folder(variable: str, path: Path) -> Path | None:
    """The folder that a variable of HDF5 names for files beside ``path``."""
    value = os.environ.get(variable, "").replace("${ORIGIN}", str(path.parent))
    return Path(value) if value else None


def _check_virtual(h5py: Any, path: Path, dataset: Any) -> None:
    folder = _folder("HDF5_VDS_PREFIX", path)
    home = Path(dataset.file.filename).parent  # a link may have led to another file
    for file, name in {(item.file_name, item.dset_name) for item in dataset.virtual_sources()}:
        if "%" in file + name:  # a pattern for sources that may still come
            continue
        places = [place / file for place in (folder, home, Path()) if place is not None]
        place = next((place for place in places if place.is_file()), None)
        if file == ".":
            is_there = name in dataset.file
        elif place is not None:
            with h5py.File(place, "r") as other:
                is_there = name in other
        else:
            is_there = False
        if not is_there:
            raise InputError(
                f"{path}::{dataset.name}: a virtual dataset whose source {name} in the file {file} "
                "is missing; HDF5 would read zeros there: copy it beside this file"
            )


def _check_raw_files(path: Path, dataset: Any) -> None:
    home = Path(dataset.file.filename)
    folder = _folder("HDF5_EXTFILE_PREFIX", home) or Path()
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
        if status.st_size < needed:
            raise InputError(
                f"{path}::{dataset.name}: its pixels lie in the file {place}, which has "
                f"{status.st_size} bytes instead of {needed}; HDF5 would read zeros there: copy "
                "the whole file"
            )

"""HDF5: one dataset of a file, read by ranges."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdtool.data.containers.base import Array, Container, Key, letters
from msdtool.data.containers.extras import load_extra, pick
from msdtool.errors import InputError

if TYPE_CHECKING:
    import h5py


class Hdf5Array(Container):
    """A dataset.

    Args:
        path: the file.
        inner: the dataset's path in it; empty: the only one that could be images.

    Raises:
        InputError: h5py is not installed, or there is no such dataset.
    """

    def __init__(self, path: Path, inner: str) -> None:
        h5py = load_extra("h5py", path)
        self.file = h5py.File(path, "r")
        try:
            self.dataset = self._find(h5py, path, inner)
            _check_sources(h5py, path, self.dataset)
        except BaseException:
            self.file.close()
            raise
        self.shape, self.dtype = self.dataset.shape, self.dataset.dtype
        self.notes = tuple(_notes(self.dataset.attrs))
        self.axes = letters([axis.label for axis in self.dataset.dims], len(self.shape))

    def _find(self, h5py: Any, path: Path, inner: str) -> "h5py.Dataset":
        item = self.file.get(inner) if inner else None
        if isinstance(item, h5py.Dataset):
            return item
        found, broken = _images(h5py, self.file)
        if inner:
            for name, link in broken.items():
                if f"/{inner.strip('/')}/".startswith(f"{name}/"):
                    raise InputError(f"{path}::{inner}: {_lost(link)}")
            what = "is a group" if isinstance(item, h5py.Group) else "has no dataset of that name"
            held = ", ".join(found) or "none"
            raise InputError(f"{path}::{inner}: the file {what}; it holds {held}")
        name = pick(path, [*found, *broken])
        if name in broken:
            raise InputError(f"{path}::{name}: {_lost(broken[name])}")
        return found[name]

    def read(self, key: Key) -> Array:
        """Read a part."""
        part: Array = self.dataset[key]
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _lost(link: Any) -> str:
    """What is wrong with an external link."""
    return (
        f"links to {link.path} in the file {link.filename}, which is not there or has no such "
        "dataset; copy it beside this file"
    )


def _images(h5py: Any, file: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Datasets that could be images, by path, and external links whose target is missing.

    Links are followed: the master files of detectors, and NeXus files, consist of them.
    """
    found: dict[str, Any] = {}
    broken: dict[str, Any] = {}
    seen = set()
    groups = [("", file["/"])]
    while groups:
        prefix, group = groups.pop(0)
        for name in group:
            path, item = f"{prefix}/{name}", group.get(name)
            if item is None:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    broken[path] = link
                continue
            info = h5py.h5o.get_info(item.id)
            if (info.fileno, info.addr) in seen:
                continue
            seen.add((info.fileno, info.addr))
            if isinstance(item, h5py.Group):
                groups.append((path, item))
            elif isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and item.ndim >= 2:
                found[path] = item
    return found, broken


def _check_sources(h5py: Any, path: Path, dataset: Any) -> None:
    """Raise InputError if a virtual dataset's source is missing: HDF5 would read zeros.

    The folder that HDF5 searches besides is taken into account (HDF5_VDS_PREFIX).
    """
    if not dataset.is_virtual:
        return
    prefix = os.environ.get("HDF5_VDS_PREFIX", "").replace("${ORIGIN}", str(path.parent))
    folders = [Path(prefix)] if prefix else []
    home = Path(dataset.file.filename).parent  # a link may have led to another file
    for source in {(item.file_name, item.dset_name) for item in dataset.virtual_sources()}:
        file, name = source
        if "%" in file + name:  # a pattern for sources that may still come
            continue
        places = [folder / file for folder in (*folders, home, Path())]
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


def _notes(attributes: Mapping[str, Any]) -> Iterator[str]:
    """What attributes of the CF conventions (netCDF) say about values, see `Container`."""
    for name in ("_FillValue", "missing_value"):
        if name in attributes:
            yield f"the value {_number(attributes[name])} stands for missing ones ({name})"
    packing = [name for name in ("scale_factor", "add_offset") if name in attributes]
    if packing:
        facts = ", ".join(f"{name} {_number(attributes[name])}" for name in packing)
        yield f"values are read as they are stored, the file says {facts}"


def _number(value: Any) -> str:
    return str(np.asarray(value).ravel()[0])

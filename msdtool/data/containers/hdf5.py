"""HDF5: one dataset of a file, read by ranges."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msdtool.data.containers.base import Array, Container, Key, pick
from msdtool.data.containers.hdf5_sources import check_sources
from msdtool.data.extras import load_extra
from msdtool.data.letters import letters
from msdtool.data.metadata import nexus
from msdtool.errors import InputError

if TYPE_CHECKING:
    import h5py

FIRST_REGISTERED = 256
"""Filters of smaller numbers are part of the HDF5 library."""


class Hdf5Array(Container):
    """A dataset.

    Args:
        path: the file.
        inner: the dataset's path in it; empty: the only one that could be images, or the one that
            the file says to be its default, see `msdtool.data.metadata.nexus.default`.

    Raises:
        InputError: h5py is not installed, or there is no such dataset.
    """

    def __init__(self, path: Path, inner: str) -> None:
        h5py = load_extra("h5py", path)
        self.file = h5py.File(path, "r")
        try:
            self.dataset = self._find(h5py, path, inner)
            self._sources = check_sources(h5py, path, self.dataset)
            _load_filters(path, self.dataset)
        except BaseException:
            self.file.close()
            raise
        self.shape, self.dtype = self.dataset.shape, self.dataset.dtype
        self.notes = tuple(_notes(self.dataset.attrs))
        self.axes = letters(_labels(self.dataset.attrs, len(self.shape)), len(self.shape))

    def _find(self, h5py: Any, path: Path, inner: str) -> "h5py.Dataset":
        item = _target(self.file, inner) if inner else None
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
        shapes = {name: item.shape for name, item in found.items()} | dict.fromkeys(broken)
        # A file may have other links that lead nowhere beside its images.
        images = {
            name: shape
            for name, shape in shapes.items()
            if name in found or _is_external(h5py, broken[name])
        }
        name = nexus.default(self.file, shapes) or pick(path, images or shapes)
        if name in broken:
            raise InputError(f"{path}::{name}: {_lost(broken[name])}")
        return found[name]

    def read(self, key: Key) -> Array:
        """Read a part."""
        part: Array = self.dataset[key]
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    def files(self) -> list[Path]:
        """The file that a link led to, and those that hold the pixels."""
        return self._sources

    def close(self) -> None:
        """Close the file, and forget the dataset, which holds more of the HDF5 library than it."""
        del self.dataset
        self.file.close()


def count_arrays(path: Path) -> int:
    """Return the number of datasets of a file that could be images."""
    h5py = load_extra("h5py", path)
    with h5py.File(path, "r") as file:
        return len(_images(h5py, file)[0])


def _load_filters(path: Path, dataset: Any) -> None:
    """Have HDF5 know the compression of a dataset.

    Raises:
        InputError: it needs a package that is not installed.
    """
    options = dataset.id.get_create_plist()
    codes = [options.get_filter(number)[0] for number in range(options.get_nfilters())]
    if any(code >= FIRST_REGISTERED for code in codes):
        load_extra("hdf5plugin", path)


def _is_external(h5py: Any, link: Any) -> bool:
    return isinstance(link, h5py.ExternalLink)


def _lost(link: Any) -> str:
    """What is wrong with a link."""
    if not hasattr(link, "filename"):
        return f"links to {link.path}, which is not there or leads back to the link"
    return (
        f"links to {link.path} in the file {link.filename}, which is not there or has no such "
        "dataset; copy it beside this file"
    )


def _images(h5py: Any, file: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Datasets that could be images, by path, and links whose target is missing.

    Links are followed: the master files of detectors, and NeXus files, consist of them.
    """
    found: dict[str, Any] = {}
    broken: dict[str, Any] = {}
    seen = set()
    groups = [("", file["/"])]
    while groups:
        prefix, group = groups.pop(0)
        for name in group:
            path, link = f"{prefix}/{name}", group.get(name, getlink=True)
            item = _target(group, name)
            if item is None:
                if not isinstance(link, h5py.HardLink):
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


def _target(group: Any, name: str) -> Any:
    """What a name in a group stands for; None for a link that leads nowhere, or to itself."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, ValueError):
        return None


def _labels(attributes: Any, count: int) -> list[str | None]:
    """The names of a dataset's dimensions.

    HDF5's own function for them takes on trust that there are as many as dimensions: of a damaged
    file it reads and frees memory that is not its own.
    """
    name = "DIMENSION_LABELS"
    if name not in attributes or attributes.get_id(name).shape != (count,):
        return []
    labels = np.asarray(attributes[name]).tolist()
    return [
        label.decode("utf-8", "replace") if isinstance(label, bytes) else label for label in labels
    ]


def _notes(attributes: Any) -> Iterator[str]:
    """What attributes of the CF conventions (netCDF) say about values, see `Container`."""
    for name in ("_FillValue", "missing_value"):
        if _has_number(attributes, name):
            yield f"the value {_number(attributes[name])} stands for missing ones ({name})"
    packing = [name for name in ("scale_factor", "add_offset") if _has_number(attributes, name)]
    if packing:
        facts = ", ".join(f"{name} {_number(attributes[name])}" for name in packing)
        yield f"values are read as they are stored, the file says {facts}"


def _has_number(attributes: Any, name: str) -> bool:
    return name in attributes and bool(prod(attributes.get_id(name).shape or ()))


def _number(value: Any) -> str:
    return str(np.asarray(value).ravel()[0])

"""Zarr and OME-Zarr: one array of a store, read by chunks."""

import errno
import os
from pathlib import Path
from typing import Any

from msdtool.data.containers.base import Array, Container, Key, pick
from msdtool.data.extras import load_extra
from msdtool.data.letters import letters
from msdtool.data.metadata.ngff import attributes, axes_of, multiscales
from msdtool.errors import InputError
from msdtool.special_files import refuse_special

SUFFIX = ".zarr"
MARKERS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Whether a path is a zarr store, or a group or array inside one."""
    return path.suffix.lower() == SUFFIX or any((path / marker).is_file() for marker in MARKERS)


class ZarrArray(Container):
    """An array of a store.

    Args:
        path: the store's folder.
        inner: the array's path in it. Empty: the only array; of an OME-Zarr image, the one at full
            resolution.

    Raises:
        InputError: zarr is not installed, or there is no such array.

    Attributes:
        array: the array, of the zarr library.
        group: the OME-Zarr image that it is a level of, or None.
    """

    def __init__(self, path: Path, inner: str) -> None:
        self.path, self.zarr = path, load_extra("zarr", path)
        if not any((path / marker).is_file() for marker in MARKERS):
            raise ValueError("there is no zarr array or group in the folder")
        node = open_store(self.zarr, path)
        self.axes = ""
        self.group: Any = None
        for name in filter(None, inner.split("/")):
            node = self._child(node, name, path, inner)
        if isinstance(node, self.zarr.Group):
            node = self._default(node, path)
        self.array = node
        self.shape, self.dtype = tuple(node.shape), node.dtype
        if len(self.axes) != len(self.shape):
            self.axes = _array_axes(node)

    def _child(self, node: Any, name: str, path: Path, inner: str) -> Any:
        if not isinstance(node, self.zarr.Group) or name not in node:
            held = ", ".join(sorted(node)) if isinstance(node, self.zarr.Group) else ""
            raise InputError(
                f"{path}::{inner}: there is no {name!r}; the group holds {held or 'nothing'}"
            )
        is_array = isinstance(node[name], self.zarr.Array)
        self.axes, self.group = (axes_of(node), node) if is_array else ("", None)
        return node[name]

    def _default(self, group: Any, path: Path) -> Any:
        scales = multiscales(group)
        if scales:
            self.axes, self.group = axes_of(group), group
            return group[scales["datasets"][0]["path"]]
        within = f"{group.path}/" if group.path else ""  # names count from the store's root
        if "bioformats2raw.layout" in attributes(group):
            images = {
                f"{within}{name}": name for name in sorted(filter(str.isdigit, group), key=int)
            }
            return self._default(group[images[pick(path, dict.fromkeys(images))]], path)
        members = {f"{within}{name}": item for name, item in group.members(max_depth=None)}
        if {"plate", "well"} & set(attributes(group)):
            field = next((name for name, item in members.items() if multiscales(item)), "A/1/0")
            raise InputError(
                f"{path}: holds the wells of a plate; name an image in it, such as "
                f"{path.name}::{field}"
            )
        arrays = {
            name: item
            for name, item in members.items()
            if isinstance(item, self.zarr.Array) and item.dtype.kind in "biuf"
        }
        return arrays[pick(path, {name: arrays[name].shape for name in sorted(arrays)})]

    def read(self, key: Key) -> Array:
        """Read a part."""
        part: Array = self.array[key]
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    def files(self) -> list[Path]:
        """The files of its chunks."""
        folder = self.path / self.array.path
        return sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)

    def close(self) -> None:
        """Do nothing: chunks are opened only to be read."""


def open_store(zarr: Any, path: Path) -> Any:
    """Open the array or group in a store's folder, to be read.

    Reading it raises OSError where a file of the store is a pipe or a device, which may never end,
    or a link to what is not there, or a folder: zarr would take such a chunk for an absent one.
    """

    class FilesOnly(zarr.storage.LocalStore):  # type: ignore[misc]
        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            _refuse_broken(Path(self.root), key)
            return await super().get(key, *arguments, **options)

    return zarr.open(FilesOnly(path, read_only=True), mode="r")


def _refuse_broken(root: Path, key: str) -> None:
    file = root / key
    if file.is_file():
        return
    for place in (file, *file.parents[: key.count("/")]):
        if place.is_symlink() and not place.exists():
            raise OSError(
                errno.EIO,
                f"{place} is a link to {place.readlink()}, which is not there; fetch that file",
            )
    if file.is_dir():
        raise OSError(errno.EIO, f"{file} is a folder, where the store has a file")
    if file.exists():
        refuse_special(file.stat())


def count_arrays(path: Path) -> int:
    """Return the number of images of a store; the levels of an OME-Zarr image are one."""
    zarr = load_extra("zarr", path)
    node = open_store(zarr, path)
    if isinstance(node, zarr.Array):
        return 1
    arrays = {
        name
        for name, item in node.members(max_depth=None)
        if isinstance(item, zarr.Array) and item.dtype.kind in "biuf"
    }
    return len({_image_of(node, name) for name in arrays})


def _image_of(node: Any, name: str) -> str:
    """The OME-Zarr image that an array is a level of, or else the array."""
    folder, _, level = name.rpartition("/")
    scales = multiscales(node[folder] if folder else node)
    return folder if scales and level in [item["path"] for item in scales["datasets"]] else name


def _array_axes(array: Any) -> str:
    """Dimension names, as in zarr format 3 or as written by xarray."""
    metadata = getattr(array, "metadata", None)
    names = getattr(metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS", [])
    return letters(names, len(array.shape))

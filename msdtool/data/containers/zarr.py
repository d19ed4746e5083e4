"""Zarr and OME-Zarr: one array of a store, read by chunks."""

from pathlib import Path
from typing import Any

from msdtool.data.containers.base import Array, Container, Key, letters
from msdtool.data.containers.extras import load_extra, pick
from msdtool.errors import InputError

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
    """

    def __init__(self, path: Path, inner: str) -> None:
        self.zarr = load_extra("zarr", path)
        if not any((path / marker).is_file() for marker in MARKERS):
            raise ValueError("there is no zarr array or group in the folder")
        node = self.zarr.open(str(path), mode="r")
        self.axes = ""
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
        self.axes = _scale_axes(node) if isinstance(node[name], self.zarr.Array) else ""
        return node[name]

    def _default(self, group: Any, path: Path) -> Any:
        scales = _multiscales(group)
        if scales:
            self.axes = _scale_axes(group)
            return group[scales["datasets"][0]["path"]]
        within = f"{group.path}/" if group.path else ""  # names count from the store's root
        if "bioformats2raw.layout" in _attributes(group):
            images = {
                f"{within}{name}": name for name in sorted(filter(str.isdigit, group), key=int)
            }
            return self._default(group[images[pick(path, list(images))]], path)
        members = {f"{within}{name}": item for name, item in group.members(max_depth=None)}
        if {"plate", "well"} & set(_attributes(group)):
            field = next((name for name, item in members.items() if _multiscales(item)), "A/1/0")
            raise InputError(
                f"{path}: holds the wells of a plate; name an image in it, such as "
                f"{path.name}::{field}"
            )
        arrays = {
            name: item
            for name, item in members.items()
            if isinstance(item, self.zarr.Array) and item.dtype.kind in "biuf"
        }
        return arrays[pick(path, sorted(arrays))]

    def read(self, key: Key) -> Array:
        """Read a part."""
        part: Array = self.array[key]
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Do nothing: chunks are opened only to be read."""


def _multiscales(group: Any) -> dict[str, Any]:
    """The description of an OME-Zarr image (NGFF 0.4 and 0.5), empty for other groups."""
    found = _attributes(group).get("multiscales") or [{}]
    return dict(found[0])


def _attributes(group: Any) -> dict[str, Any]:
    """What NGFF says about a group: from version 0.5 on under the key ome."""
    attributes = dict(group.attrs)
    return dict(attributes.get("ome", attributes))


def _scale_axes(group: Any) -> str:
    axes = _multiscales(group).get("axes", [])
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in axes]
    return letters(names, len(names))


def _array_axes(array: Any) -> str:
    """Dimension names, as in zarr format 3 or as written by xarray."""
    metadata = getattr(array, "metadata", None)
    names = getattr(metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS", [])
    return letters(names, len(array.shape))

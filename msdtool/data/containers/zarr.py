"""Zarr and OME-Zarr: one array of a store, read by chunks."""

from pathlib import Path
from typing import Any

from msdtool.data.containers.base import Array, Key, letters
from msdtool.data.containers.extras import load_extra, pick
from msdtool.errors import InputError

SUFFIX = ".zarr"
MARKERS = ("zarr.json", ".zarray", ".zgroup")


def is_zarr(path: Path) -> bool:
    """Whether a path is a zarr store, or a group or array inside one."""
    return path.suffix.lower() == SUFFIX or any((path / marker).is_file() for marker in MARKERS)


class ZarrArray:
    """An array of a store.

    Args:
        path: the store's folder.
        inner: the array's path in it. Empty takes the only array; of an OME-Zarr image, the one of
            full resolution.

    Raises:
        InputError: zarr is missing, or there is no such array.
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
        arrays = {name: item for name, item in group.arrays() if item.dtype.kind in "biuf"}
        return arrays[pick(path, list(arrays))]

    def read(self, key: Key) -> Array:
        """Read a part."""
        part: Array = self.array[key]
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Do nothing: chunks are opened when they are read."""


def _multiscales(group: Any) -> dict[str, Any]:
    """The description of an OME-Zarr image (NGFF 0.4 and 0.5), or nothing."""
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes).get("multiscales") or [{}]
    return dict(found[0])


def _scale_axes(group: Any) -> str:
    axes = _multiscales(group).get("axes", [])
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in axes]
    return letters(names, len(names))


def _array_axes(array: Any) -> str:
    """Dimension names: of zarr's format 3, or as xarray writes them."""
    metadata = getattr(array, "metadata", None)
    names = getattr(metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS", [])
    return letters(names, len(array.shape))

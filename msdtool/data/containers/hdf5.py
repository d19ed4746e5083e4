"""HDF5: one dataset of a file, read by ranges."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdtool.data.containers.base import Array, Key, letters
from msdtool.data.containers.extras import load_extra, pick
from msdtool.errors import InputError

if TYPE_CHECKING:
    import h5py

SUFFIXES = {".h5", ".hdf5", ".hdf", ".he5", ".nxs"}


class Hdf5Array:
    """A dataset.

    Args:
        path: the file.
        inner: the dataset's path in it; empty takes the only one that could be images.

    Raises:
        InputError: h5py is missing, or there is no such dataset.
    """

    def __init__(self, path: Path, inner: str) -> None:
        h5py = load_extra("h5py", path)
        self.file = h5py.File(path, "r")
        try:
            self.dataset = self._find(h5py, path, inner)
        except BaseException:
            self.file.close()
            raise
        self.shape, self.dtype = self.dataset.shape, self.dataset.dtype
        self.axes = letters([axis.label for axis in self.dataset.dims], len(self.shape))

    def _find(self, h5py: Any, path: Path, inner: str) -> "h5py.Dataset":
        found: dict[str, Any] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and item.ndim >= 2:
                found[f"/{name}"] = item

        if not inner:
            self.file.visititems(note)
            return found[pick(path, list(found))]
        item = self.file.get(inner)
        if isinstance(item, h5py.Dataset):
            return item
        self.file.visititems(note)
        what = "is a group" if isinstance(item, h5py.Group) else "has no dataset of that name"
        raise InputError(f"{path}::{inner}: the file {what}; it holds {', '.join(found) or 'none'}")

    def read(self, key: Key) -> Array:
        """Read a part."""
        part: Array = self.dataset[key]
        return part.astype(part.dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

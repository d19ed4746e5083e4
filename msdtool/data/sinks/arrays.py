"""HDF5 and zarr: arrays that take ranges."""

from typing import Any

from msdtool.data.containers import Array
from msdtool.data.containers.extras import load_extra
from msdtool.data.sinks.base import Sink

MAX_CHUNK = 512


class ArraySink(Sink):
    """A dataset that takes ranges."""

    array: Any

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        part = pixels if self.result.image[0] > 1 else pixels[0]
        self.array[self.result.key(index, start, pixels.shape[axis + 1], axis)] = part

    def _chunks(self) -> tuple[int, ...]:
        """Chunks of one image, and of at most `MAX_CHUNK` pixels on a side."""
        counted = len(self.result.counts)
        sizes = [min(size, MAX_CHUNK) for size in self.result.shape[counted:]]
        if len(self.result.image) == 4:
            sizes[-3] = 1
        return (1,) * counted + tuple(sizes)


class Hdf5Sink(ArraySink):
    """A dataset in a file of its own."""

    def _open(self, *, is_new: bool) -> None:
        h5py = load_extra("h5py", self.path)
        inner = self.result.inner or "data"
        self.file = h5py.File(self.partial, "w" if is_new else "r+")
        if is_new:
            self.file.create_dataset(
                inner, self.result.shape, self.result.dtype, chunks=self._chunks()
            )
            for axis, letter in zip(self.file[inner].dims, self.result.axes, strict=True):
                axis.label = letter.lower()
        self.array = self.file[inner]

    def _sync(self) -> None:
        if self.file:
            self.file.flush()

    def close(self) -> None:
        """Close the file; what is done stays for a later try."""
        self.file.close()


class ZarrSink(ArraySink):
    """An array, or one in a group."""

    def _open(self, *, is_new: bool) -> None:
        zarr = load_extra("zarr", self.path)
        inner = self.result.inner.strip("/")
        if not is_new:
            self.array = zarr.open_array(str(self.partial / inner), mode="r+")
            return
        options = {
            "shape": self.result.shape,
            "dtype": self.result.dtype,
            "chunks": self._chunks(),
            "dimension_names": tuple(self.result.axes.lower()),
        }
        if inner:
            self.array = zarr.open_group(str(self.partial), mode="w").create_array(inner, **options)
        else:
            self.array = zarr.create_array(str(self.partial), **options)

    def _sync(self) -> None:
        """Each chunk is a file that is written whole."""

    def close(self) -> None:
        """Do nothing: no file is open."""

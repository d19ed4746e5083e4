"""Zarr: an array that is assigned range by range."""

from pathlib import Path

from msdtool.data.containers import Array
from msdtool.data.containers.extras import load_extra
from msdtool.data.sinks.base import Sink

MAX_CHUNK = 512


class ZarrSink(Sink):
    """A zarr array, at the root or in a group."""

    is_folder = True

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

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        part = pixels if self.result.image[0] > 1 else pixels[0]
        self.array[self.result.key(index, start, pixels.shape[axis + 1], axis)] = part

    def _chunks(self) -> tuple[int, ...]:
        """Return the shape of a chunk: within one image, at most `MAX_CHUNK` pixels on a side."""
        counted = len(self.result.counts)
        sizes = [min(size, MAX_CHUNK) for size in self.result.shape[counted:]]
        if len(self.result.image) == 4:
            sizes[-3] = 1
        return (1,) * counted + tuple(sizes)

    def _marked(self) -> Path:
        return self.partial / self.result.inner.strip("/")

    def _sync(self) -> None:
        """Do nothing: each chunk is a file of its own, and none is open."""

    def close(self) -> None:
        """Do nothing: no file is open."""

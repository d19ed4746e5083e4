"""Complete results, written once more in compressed form.

While a result is computed, its pixels lie uncompressed in a file: strips can be written to any
place of it, and a process that is killed leaves nothing that is damaged.
"""

import io
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile

from msdtool.data.containers import Array
from msdtool.data.containers.flat import FlatArray
from msdtool.data.extras import load_extra
from msdtool.data.metadata import hdf5
from msdtool.data.sinks.result import Result, tiff_header

CHUNK = 512
"""Largest number of pixels of a chunk along each axis of an image."""


def compress_tiff(pixels: FlatArray, target: Path, result: Result) -> None:
    """Write a TIFF page by page, compressed as the result says.

    Raises:
        OSError: the file cannot be written.
        InputError: the compression needs a package that is missing.
    """
    assert result.compression is not None
    options: dict[str, Any] = {"compression": result.compression, "predictor": True}
    if result.compression != "deflate" or np.dtype(result.dtype).kind == "f":
        load_extra("imagecodecs", target)
    tifffile.imwrite(target, _pages(pixels), **tiff_header(result), **options)


def _pages(pixels: FlatArray) -> Iterator[Array]:
    """The pages of an array one after the other, [Y, X]."""
    for place in np.ndindex(pixels.shape[:-2]):
        yield pixels.read((*map(int, place), slice(None), slice(None)))


def compress_hdf5(pixels: FlatArray, target: Path, result: Result) -> None:
    """Write an HDF5 file chunk by chunk, compressed as the result says.

    Raises:
        OSError: the file cannot be written.
        InputError: the compression needs a package that is missing.
    """
    h5py = load_extra("h5py", target)
    chunks = chunk_shape(result)
    with _Disk(target) as disk, h5py.File(disk, "w") as file:
        dataset = file.create_dataset(
            result.dataset,
            result.shape,
            result.dtype,
            chunks=chunks,
            **_filters(result, target),
        )
        hdf5.write(dataset, result.axes, result.description)
        for key in chunk_keys(result.shape, chunks):
            dataset[key] = pixels.read(key)
            disk.check()


def _filters(result: Result, target: Path) -> dict[str, Any]:
    """The arguments of h5py for a compression."""
    if result.compression == "deflate":
        return {"compression": "gzip", "shuffle": True}
    hdf5plugin = load_extra("hdf5plugin", target)
    if result.compression == "zstd":
        return {**hdf5plugin.Zstd(), "shuffle": True}
    return dict(hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.SHUFFLE))


def chunk_shape(result: Result) -> tuple[int, ...]:
    """Return the shape of a chunk: within one image, at most `CHUNK` pixels on a side."""
    counted = len(result.counts)
    sizes = [min(size, CHUNK) for size in result.shape[counted:]]
    if len(result.image) == 4:
        sizes[-3] = 1
    return (1,) * counted + tuple(sizes)


def chunk_keys(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the ranges of each chunk of an array."""
    starts = (range(0, size, step) for size, step in zip(shape, chunks, strict=True))
    for place in product(*starts):
        yield tuple(
            slice(start, min(start + step, size))
            for start, step, size in zip(place, chunks, shape, strict=True)
        )


class _Disk(io.RawIOBase):
    """A file for the HDF5 library, which does not survive an error while it writes.

    The first error is kept, and the library told that all is well; `check` and the end raise it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb+", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error that occurred, if one did."""
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer) or 0

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            rest = memoryview(data).cast("B")
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self.check()

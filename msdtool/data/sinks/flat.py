"""TIFF, .npy and HDF5 files, whose pixels are laid out as in memory, and folders of TIFFs."""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np
import tifffile

from msdtool.atomic import PARTIAL, atomic_path, sync, temporary_name
from msdtool.data.containers import Array
from msdtool.data.containers.flat import FlatArray
from msdtool.data.extras import load_extra
from msdtool.data.metadata import hdf5, mrc, nifti
from msdtool.data.sinks.base import Sink
from msdtool.data.sinks.compression import compress_hdf5, compress_tiff
from msdtool.data.sinks.result import Result, tiff_header
from msdtool.errors import InputError
from msdtool.positioned import BINARY, write_at


class FlatFile(ABC):
    """A header, then the pixels as in memory; see `msdtool.data.containers.flat`.

    Args:
        path: the file.
        result: what it holds.
        is_new: write the header; otherwise the file is there.
    """

    def __init__(self, path: Path, result: Result, *, is_new: bool) -> None:
        self.path, self.result = path, result
        if is_new:
            self._write_header(path)
        self.offset = self._pixels_offset(path)
        self.file: int | None = os.open(path, os.O_RDWR | BINARY)

    @property
    def pixels(self) -> FlatArray:
        """All pixels, to be read."""
        dtype = np.dtype(self.result.dtype)
        return FlatArray(self.path, self.offset, self.result.shape, dtype)

    @abstractmethod
    def _write_header(self, path: Path) -> None: ...

    @abstractmethod
    def _pixels_offset(self, path: Path) -> int: ...

    def write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        """Write slices of an image; see `Sink.write`."""
        assert self.file is not None
        image = self.result.image
        slice_bytes = prod(image[axis + 2 :]) * pixels.itemsize
        rows = np.ascontiguousarray(pixels).reshape(prod(image[: axis + 1]), -1)
        for number, row in enumerate(rows):
            place = ((index * len(rows) + number) * image[axis + 1] + start) * slice_bytes
            data = row.data.cast("B")
            assert len(data) == pixels.shape[axis + 1] * slice_bytes
            while data:
                written = write_at(self.file, [data], self.offset + place)
                data, place = data[written:], place + written

    def sync(self) -> None:
        """Flush everything to disk."""
        if self.file is not None:
            os.fsync(self.file)

    def close(self) -> None:
        """Close the file."""
        file, self.file = self.file, None
        if file is not None:
            os.close(file)


class TiffFile(FlatFile):
    """A TIFF that names its axes."""

    def _write_header(self, path: Path) -> None:
        tifffile.imwrite(path, **tiff_header(self.result))

    def _pixels_offset(self, path: Path) -> int:
        with tifffile.TiffFile(path) as file:
            # All pages lie one after the other; to group them into series takes milliseconds.
            return int(file.pages.first.dataoffsets[0])


class NpyFile(FlatFile):
    """A file in the format of `numpy.save`."""

    def _write_header(self, path: Path) -> None:
        np.lib.format.open_memmap(path, "w+", self.result.dtype, self.result.shape)

    def _pixels_offset(self, path: Path) -> int:
        return int(np.load(path, mmap_mode="r").offset)


class Hdf5File(FlatFile):
    """An HDF5 file with one dataset, whose axes have names.

    Its pixels are written past the HDF5 library: that cannot close a file on a disk that is full
    without ending the process, and a file that it was changing when it was killed may be damaged.
    """

    def _write_header(self, path: Path) -> None:
        result, content = self.result, io.BytesIO()
        with import_module("h5py").File(content, "w") as file:  # an extra
            dataset = file.create_dataset(result.dataset, result.shape, result.dtype)
            hdf5.write(dataset, result.axes, result.description)
            # The first pixel makes room for all of them: last, so that nothing lies behind them.
            dataset[(0,) * len(result.shape)] = 0
            size = dataset.id.get_offset() + dataset.nbytes
        path.write_bytes(content.getbuffer())
        assert path.stat().st_size <= size
        os.truncate(path, size)

    def _pixels_offset(self, path: Path) -> int:
        with import_module("h5py").File(path, "r") as file:
            return int(file[self.result.dataset].id.get_offset())


class PixelsLast(FlatFile):
    """A file that ends with the pixels."""

    def _pixels_offset(self, path: Path) -> int:
        size = prod(self.result.shape) * np.dtype(self.result.dtype).itemsize
        return path.stat().st_size - size


class MrcFile(PixelsLast):
    """An MRC file."""

    def _write_header(self, path: Path) -> None:
        result = self.result
        dtype = np.dtype(result.dtype)
        with naming(result.name):
            mrc.write(path, result.shape, result.axes, dtype, result.description)


class NiftiFile(PixelsLast):
    """A NIfTI file, whose pixels lie in memory's order if its axes are read backwards."""

    def _write_header(self, path: Path) -> None:
        result = self.result
        dtype = np.dtype(result.dtype)
        with naming(result.name):
            nifti.write(path, result.shape, result.axes, dtype, result.description)


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Put the name of the result before what a format says about it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error.message}") from None


class FlatSink(Sink):
    """A single flat file."""

    kind: ClassVar[type[FlatFile]]
    compress: ClassVar[Callable[[FlatArray, Path, Result], None]]

    def _open(self, *, is_new: bool) -> None:
        self.file = self.kind(self.partial, self.result, is_new=is_new)

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        self.file.write(index, start, pixels, axis)

    def _sync(self) -> None:
        self.file.sync()

    def close(self) -> None:
        """Close the file; what is written stays for a later try."""
        self.file.close()

    def _is_encoded(self) -> bool:
        """Whether the complete result is written once more, in another form."""
        return self.result.compression not in (None, "none")

    def _completed(self) -> Path:
        if not self._is_encoded():
            return self.partial
        compressed = temporary_name(self.journal.target)
        try:
            type(self).compress(self.file.pixels, compressed, self.result)
            sync(compressed)
        except BaseException:
            compressed.unlink(missing_ok=True)
            raise
        return compressed


class TiffSink(FlatSink):
    """A TIFF."""

    kind = TiffFile
    compress = compress_tiff


class NpySink(FlatSink):
    """A .npy file."""

    kind = NpyFile


class Hdf5Sink(FlatSink):
    """An HDF5 file."""

    kind = Hdf5File
    compress = compress_hdf5

    def _open(self, *, is_new: bool) -> None:
        load_extra("h5py", self.path)
        super()._open(is_new=is_new)


class MrcSink(FlatSink):
    """An MRC file."""

    kind = MrcFile


class NiftiSink(FlatSink):
    """A NIfTI file."""

    kind = NiftiFile


class FilesSink(Sink):
    """A folder with one TIFF per image, named by its number."""

    is_folder = True

    def _open(self, *, is_new: bool) -> None:
        self.partial.mkdir(exist_ok=not is_new)
        self.current: TiffFile | None = None
        self.number = -1

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        if self.current is None or index != self.number:
            self._sync()
            self.close()
            digits = len(str(max(self.result.num_images - 1, 1)))
            file = self.partial / f"{self.path.name}_{index:0{digits}}.tif"
            self.current = TiffFile(file, self._single(), is_new=start == 0)
            self.number = index
        self.current.write(0, start, pixels, axis)

    def _single(self) -> Result:
        """What each of the files holds."""
        return replace(self.result, counts=(), names="")

    def _sync(self) -> None:
        if self.current is not None:
            self.current.sync()
            sync(self.partial)

    def _completed(self) -> Path:
        for unfinished in self.partial.glob(PARTIAL):  # by an earlier try
            unfinished.unlink()
        if self.result.compression not in (None, "none"):
            for file in self.partial.glob("*.tif"):
                if not _is_compressed(file):  # by an earlier try
                    flat = TiffFile(file, self._single(), is_new=False)
                    with closing(flat), atomic_path(file, is_claimed=True) as compressed:
                        compress_tiff(flat.pixels, compressed, self._single())
        return self.partial

    def close(self) -> None:
        """Close the file; what is written stays for a later try."""
        if self.current is not None:
            self.current.close()
        self.current = None


def _is_compressed(path: Path) -> bool:
    with tifffile.TiffFile(path) as file:
        return file.pages.first.compression != tifffile.COMPRESSION.NONE

"""TIFF, .npy and HDF5 files, whose pixels are laid out as in memory, and folders of TIFFs."""

import io
import os
from abc import ABC, abstractmethod
from importlib import import_module
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np
import tifffile

from msdtool.atomic import sync
from msdtool.data.containers import Array
from msdtool.data.containers.extras import load_extra
from msdtool.data.sinks.base import Sink
from msdtool.data.sinks.result import Result


class FlatFile(ABC):
    """A header, then the pixels as in memory; see `msdtool.data.containers.flat`.

    Args:
        path: the file.
        result: what it holds.
        is_new: write the header; otherwise the file is there.
    """

    def __init__(self, path: Path, result: Result, *, is_new: bool) -> None:
        self.result = result
        if is_new:
            self._write_header(path)
        self.offset = self._pixels_offset(path)
        self.file: int | None = os.open(path, os.O_RDWR)

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
                written = os.pwrite(self.file, data, self.offset + place)
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
        tifffile.imwrite(
            path,
            shape=self.result.shape,
            dtype=self.result.dtype,
            photometric="minisblack",
            metadata={"axes": self.result.axes},
        )

    def _pixels_offset(self, path: Path) -> int:
        with tifffile.TiffFile(path) as file:
            offset = file.series[0].dataoffset
        assert offset is not None
        return int(offset)


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
            dataset = file.create_dataset(self._name(), result.shape, result.dtype)
            for axis, letter in zip(dataset.dims, result.axes, strict=True):
                axis.label = letter.lower()
            # The first pixel makes room for all of them: last, so that nothing lies behind them.
            dataset[(0,) * len(result.shape)] = 0
            size = dataset.id.get_offset() + dataset.nbytes
        path.write_bytes(content.getbuffer())
        assert path.stat().st_size <= size
        os.truncate(path, size)

    def _pixels_offset(self, path: Path) -> int:
        with import_module("h5py").File(path, "r") as file:
            return int(file[self._name()].id.get_offset())

    def _name(self) -> str:
        return self.result.inner or "data"


class FlatSink(Sink):
    """A single flat file."""

    kind: ClassVar[type[FlatFile]]

    def _open(self, *, is_new: bool) -> None:
        self.file = self.kind(self.partial, self.result, is_new=is_new)

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        self.file.write(index, start, pixels, axis)

    def _sync(self) -> None:
        self.file.sync()

    def close(self) -> None:
        """Close the file; what is written stays for a later try."""
        self.file.close()


class TiffSink(FlatSink):
    """A TIFF."""

    kind = TiffFile


class NpySink(FlatSink):
    """A .npy file."""

    kind = NpyFile


class Hdf5Sink(FlatSink):
    """An HDF5 file."""

    kind = Hdf5File

    def _open(self, *, is_new: bool) -> None:
        load_extra("h5py", self.path)
        super()._open(is_new=is_new)


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
            single = Result((), "", self.result.image, self.result.dtype, {})
            self.current, self.number = TiffFile(file, single, is_new=start == 0), index
        self.current.write(0, start, pixels, axis)

    def _sync(self) -> None:
        if self.current is not None:
            self.current.sync()
            sync(self.partial)

    def close(self) -> None:
        """Close the file; what is written stays for a later try."""
        if self.current is not None:
            self.current.close()
        self.current = None

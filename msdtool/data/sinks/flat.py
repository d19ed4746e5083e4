"""TIFF and .npy, whose pixels lie as in memory, and folders of TIFFs."""

import os
from math import prod

import numpy as np
import tifffile

from msdtool.data.containers import Array
from msdtool.data.sinks.base import Result, Sink, hidden_names


class FlatSink(Sink):
    """A header and then pixels as in memory; see `msdtool.data.containers.flat`."""

    def _open(self, *, is_new: bool) -> None:
        if is_new:
            self._write_header()
        self.offset = self._pixels_offset()
        self.file: int | None = os.open(self.partial, os.O_RDWR)

    def _write_header(self) -> None:
        raise NotImplementedError

    def _pixels_offset(self) -> int:
        raise NotImplementedError

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
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

    def _sync(self) -> None:
        if self.file is not None:
            os.fsync(self.file)

    def close(self) -> None:
        """Close the file; what is done stays for a later try."""
        if self.file is not None:
            os.close(self.file)
        self.file = None


class TiffSink(FlatSink):
    """A TIFF that names its axes."""

    def _write_header(self) -> None:
        tifffile.imwrite(
            self.partial,
            shape=self.result.shape,
            dtype=self.result.dtype,
            photometric="minisblack",
            metadata={"axes": self.result.axes},
        )

    def _pixels_offset(self) -> int:
        with tifffile.TiffFile(self.partial) as file:
            offset = file.series[0].dataoffset
        assert offset is not None
        return int(offset)


class NpySink(FlatSink):
    """A file as `numpy.save` writes it."""

    def _write_header(self) -> None:
        np.lib.format.open_memmap(self.partial, "w+", self.result.dtype, self.result.shape)

    def _pixels_offset(self) -> int:
        return int(np.load(self.partial, mmap_mode="r").offset)


class FilesSink(Sink):
    """A folder with a TIFF per image, named by its number."""

    def _open(self, *, is_new: bool) -> None:
        self.partial.mkdir(exist_ok=True)
        self.current: TiffSink | None = None
        self.number = -1

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        if index != self.number:
            self._sync()
            digits = len(str(max(self.result.num_images - 1, 1)))
            name = f"{self.path.name}_{index:0{digits}}.tif"
            file = self.partial / name
            if start and file.exists():  # it was saved in part
                file.replace(hidden_names(file)[0])
            single = Result((), "", self.result.image, self.result.dtype, {})
            self.current, self.number = TiffSink(file, single, is_new=start == 0), index
        assert self.current is not None
        self.current.write(0, start, pixels, axis)

    def _sync(self) -> None:
        if self.current is not None:
            self.current.finish()
        self.current, self.number = None, -1

    def close(self) -> None:
        """Close the file; what is done stays for a later try."""
        if self.current is not None:
            self.current.close()

"""Results written part by part: whole or not there, and continued where they were left.

While a result is made it lies beside its final place under a hidden name, with a journal that says
how many of its images are done and what it is made of, and the state of an image that is done in
part. A later try with the same origin goes on from there; any other starts anew.
"""

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from msdtool.atomic import atomic_path, make_folder
from msdtool.data.containers import Array
from msdtool.data.containers.extras import load_extra
from msdtool.errors import Error

SUFFIXES = {"tif": ".tif", "h5": ".h5", "zarr": ".zarr", "npy": ".npy", "files": ""}
"""Formats of results, and how their names end; "files" is a folder with a TIFF per image."""

MAX_CHUNK = 512


@dataclass(frozen=True)
class Result:
    """What a result holds.

    Attributes:
        counts: sizes of the axes that count images, () for a single one.
        names: a letter for each of these.
        image: shape [C, *space] of an image; a single channel is written without its axis.
        dtype: of the pixels.
        origin: what it is made of, plain data.
        inner: path of the array in an HDF5 file or a zarr store.
    """

    counts: tuple[int, ...]
    names: str
    image: tuple[int, ...]
    dtype: str
    origin: dict[str, Any]
    inner: str = ""

    @property
    def num_images(self) -> int:
        return prod(self.counts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that is written."""
        return self.counts + (self.image if self.image[0] > 1 else self.image[1:])

    @property
    def axes(self) -> str:
        """A letter per axis of that array."""
        channels = "C" if self.image[0] > 1 else ""
        return self.names + channels + "ZYX"[1 - len(self.image) :]

    def key(self, index: int, start: int, count: int, axis: int) -> tuple[Any, ...]:
        """Where some slices of image ``index`` across a spatial axis lie in the array."""
        place = np.unravel_index(index, self.counts) if self.counts else ()
        before = axis + (1 if self.image[0] > 1 else 0)
        return (*map(int, place), *[slice(None)] * before, slice(start, start + count))


class Sink(ABC):
    """Takes the images of one result.

    Args:
        path: of the finished result.
        result: what it will hold.
        is_new: forget what an earlier try left.
    """

    def __init__(self, path: Path, result: Result, is_new: bool) -> None:
        self.path, self.result = path, result
        self.partial, self.journal, self.state = _hidden_names(path)
        with _explained(path):
            make_folder(path.parent)
            if is_new:
                self._forget()
                _remove(self.partial)
            try:
                self._open(is_new=is_new)
            except BaseException:
                if is_new:
                    _remove(self.partial)
                raise

    def write(self, index: int, start: int, pixels: Array, axis: int = 0) -> None:
        """Write slices of image ``index``, from slice ``start`` on.

        Args:
            index: the image.
            start: the first slice.
            pixels: [C, *space], of which one axis holds the slices alone.
            axis: this axis, counted among the spatial ones.

        Raises:
            Error: the disk is full, or the like.
        """
        with _explained(self.path):
            self._write(index, start, pixels.astype(self.result.dtype, copy=False), axis)

    def save(self, done: int, state: bytes = b"") -> None:
        """Put on disk that the first ``done`` images are there.

        Args:
            done: how many.
            state: what it takes to go on with the next image, which is there in part.

        Raises:
            Error: the disk is full, or the like.
        """
        with _explained(self.path):
            self._sync()
            with atomic_path(self.journal) as file:
                content = {"done": done, "result": asdict(self.result)}
                file.write_text(json.dumps(content), encoding="utf-8")
            if state:
                with atomic_path(self.state) as file:
                    file.write_bytes(state)

    def finish(self) -> None:
        """Give the result its name; whatever had it is replaced.

        Raises:
            Error: the disk is full, or the like.
        """
        with _explained(self.path):
            self._sync()
            self.close()
            if self.path.is_dir():
                _remove(self.path)
            self.partial.replace(self.path)
            self._forget()

    def discard(self) -> None:
        """Leave nothing behind."""
        self.close()
        _remove(self.partial)
        self._forget()

    def _forget(self) -> None:
        self.journal.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    @abstractmethod
    def _open(self, *, is_new: bool) -> None:
        """Open what is under the hidden name, or make it."""

    @abstractmethod
    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None: ...

    @abstractmethod
    def _sync(self) -> None:
        """Have the system put everything on disk."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; what is done stays for a later try."""


class _FlatSink(Sink):
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


class _TiffSink(_FlatSink):
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


class _NpySink(_FlatSink):
    def _write_header(self) -> None:
        np.lib.format.open_memmap(self.partial, "w+", self.result.dtype, self.result.shape)

    def _pixels_offset(self) -> int:
        return int(np.load(self.partial, mmap_mode="r").offset)


class _ArraySink(Sink):
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


class _Hdf5Sink(_ArraySink):
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


class _ZarrSink(_ArraySink):
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


class _FilesSink(Sink):
    """A folder with a TIFF per image, named by its number."""

    def _open(self, *, is_new: bool) -> None:
        self.partial.mkdir(exist_ok=True)
        self.current: _TiffSink | None = None
        self.number = -1

    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None:
        if index != self.number:
            self._sync()
            digits = len(str(max(self.result.num_images - 1, 1)))
            name = f"{self.path.name}_{index:0{digits}}.tif"
            file = self.partial / name
            if start and file.exists():  # it was saved in part
                file.replace(_hidden_names(file)[0])
            single = Result((), "", self.result.image, self.result.dtype, {})
            self.current, self.number = _TiffSink(file, single, is_new=start == 0), index
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


_SINKS: dict[str, type[Sink]] = {
    "tif": _TiffSink,
    "npy": _NpySink,
    "h5": _Hdf5Sink,
    "zarr": _ZarrSink,
    "files": _FilesSink,
}


def images_done(path: Path, result: Result) -> int | None:
    """How many images of a result an earlier try has finished; None: there was none."""
    partial, journal, _ = _hidden_names(path)
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(journal.read_text(encoding="utf-8"))
        same = found["result"] == json.loads(json.dumps(asdict(result)))
        if same and partial.exists():
            return min(int(found["done"]), result.num_images)
    return None


def saved_state(path: Path) -> bytes | None:
    """The state that an earlier try saved last; it may be that of an image that is done now."""
    with suppress(OSError):
        return _hidden_names(path)[2].read_bytes()
    return None


def _hidden_names(path: Path) -> tuple[Path, Path, Path]:
    """Where a result, its journal and the state lie until it is finished."""
    partial = path.with_name(f".{path.name}.part")
    journal, state = (partial.with_name(f"{partial.name}.{end}") for end in ("json", "state"))
    return partial, journal, state


def open_sink(format: str, path: Path, result: Result, *, is_new: bool = True) -> Sink:
    """Begin a result, or go on with one.

    Args:
        format: one of `SUFFIXES`.
        path: of the finished result.
        result: what it will hold.
        is_new: forget what an earlier try left; else `images_done` must have found one.

    Raises:
        Error: the file cannot be written.
        InputError: h5py or zarr is missing.
    """
    return _SINKS[format](path, result, is_new)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # numpy counts bytes where the system would give a reason.
        reason = error.strerror or f"{error}; is the disk full?"
        raise Error(f"{path}: cannot be written: {reason}") from None

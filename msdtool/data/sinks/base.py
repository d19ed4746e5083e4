"""What a result is, and how it comes to be: under a hidden name, with a journal."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from msdtool.atomic import atomic_path, make_folder
from msdtool.data.containers import Array
from msdtool.errors import Error


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
        self.partial, self.journal, self.state = hidden_names(path)
        with explained(path):
            make_folder(path.parent)
            if is_new:
                self._forget()
                remove(self.partial)
            try:
                self._open(is_new=is_new)
            except BaseException:
                if is_new:
                    remove(self.partial)
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
        with explained(self.path):
            self._write(index, start, pixels.astype(self.result.dtype, copy=False), axis)

    def save(self, done: int, state: bytes = b"") -> None:
        """Put on disk that the first ``done`` images are there.

        Args:
            done: how many.
            state: what it takes to go on with the next image, which is there in part.

        Raises:
            Error: the disk is full, or the like.
        """
        with explained(self.path):
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
        with explained(self.path):
            self._sync()
            self.close()
            if self.path.is_dir():
                remove(self.path)
            self.partial.replace(self.path)
            self._forget()

    def discard(self) -> None:
        """Leave nothing behind."""
        self.close()
        remove(self.partial)
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


def images_done(path: Path, result: Result) -> int | None:
    """How many images of a result an earlier try has finished; None: there was none."""
    partial, journal, _ = hidden_names(path)
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(journal.read_text(encoding="utf-8"))
        same = found["result"] == json.loads(json.dumps(asdict(result)))
        if same and partial.exists():
            return min(int(found["done"]), result.num_images)
    return None


def saved_state(path: Path) -> bytes | None:
    """The state that an earlier try saved last; it may be that of an image that is done now."""
    with suppress(OSError):
        return hidden_names(path)[2].read_bytes()
    return None


def hidden_names(path: Path) -> tuple[Path, Path, Path]:
    """Where a result, its journal and the state lie until it is finished."""
    partial = path.with_name(f".{path.name}.part")
    journal, state = (partial.with_name(f"{partial.name}.{end}") for end in ("json", "state"))
    return partial, journal, state


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # numpy counts bytes where the system would give a reason.
        reason = error.strerror or f"{error}; is the disk full?"
        raise Error(f"{path}: cannot be written: {reason}") from None

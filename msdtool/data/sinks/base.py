"""How a result is written: under a hidden name, with a journal, and complete or not at all."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from msdtool.atomic import destination, make_folder, mark, put, temporary_name
from msdtool.data.containers import Array
from msdtool.data.sinks.journal import Journal
from msdtool.data.sinks.result import Result
from msdtool.file_errors import cannot_write


class Sink(ABC):
    """Takes the images of one result.

    Whoever writes a result should `claim` it before: a second process could not continue it.

    Args:
        path: of the complete result.
        result: what it will hold.
        is_new: start from scratch; otherwise continue what `Journal.past` has found.

    Raises:
        Error: the file cannot be written.
    """

    is_folder: ClassVar[bool] = False
    """Whether the result is a folder, not a file."""

    def __init__(self, path: Path, result: Result, is_new: bool) -> None:
        self.path, self.result = path, result
        self.journal = Journal(path)
        with cannot_write(path):
            target = destination(path, is_folder=self.is_folder)
            make_folder(target.parent)
            if not is_new:
                self.partial = self.journal.partial()
                self._open(is_new=False)
                return
            self.journal.remove()
            self.partial = temporary_name(target)
            try:
                self._open(is_new=True)
            except BaseException:
                self.journal.remove()
                raise

    def write(self, index: int, start: int, pixels: Array, axis: int = 0) -> None:
        """Write slices of image ``index``, from slice ``start`` on.

        Args:
            index: the image.
            start: the first slice.
            pixels: [C, *space], complete along all axes but the one across which slices are cut.
            axis: this axis, counted among the spatial ones.

        Raises:
            Error: the file cannot be written, for example because the disk is full.
        """
        with cannot_write(self.path):
            self._write(index, start, pixels.astype(self.result.dtype, copy=False), axis)

    def save(self, done: int, state: bytes = b"") -> None:
        """Flush to disk what is written, and record that the first ``done`` images are complete.

        Args:
            done: number of images.
            state: what is needed to resume the next image, which is written in part.

        Raises:
            Error: the file cannot be written, for example because the disk is full.
        """
        with cannot_write(self.path):
            self._sync()
            self.journal.save(self.partial, self.result, done, state)

    def finish(self) -> None:
        """Give the result its name; an older result of that name is replaced.

        Raises:
            Error: the file cannot be written, for example because the disk is full.
            ConfigError: what has that name must not be replaced.
        """
        with cannot_write(self.path):
            self._sync()
            self.close()
            complete = self._completed()
            if self.is_folder:
                mark(complete, self._marked())
            put(complete, self.journal.target)
            self.journal.remove()

    def discard(self) -> None:
        """Leave nothing behind."""
        self.close()
        self.journal.remove()

    def _completed(self) -> Path:
        """Do what needs all pixels; return where the complete result lies.

        The file of the pixels stays as it is until the result has its name: a later try may have to
        do it again.
        """
        return self.partial

    def _marked(self) -> Path:
        """Where the marker of a folder lies, see `msdtool.atomic.mark`."""
        return self.partial

    @abstractmethod
    def _open(self, *, is_new: bool) -> None:
        """Open the file under the hidden name, or create it."""

    @abstractmethod
    def _write(self, index: int, start: int, pixels: Array, axis: int) -> None: ...

    @abstractmethod
    def _sync(self) -> None:
        """Flush everything to disk."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; what is written stays for a later try."""

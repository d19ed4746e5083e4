"""How far a result is that is still being written: the one record by which later tries resume it.

A result lies beside its final place under a hidden name of its own until it is complete. Beside it
lie its journal, which says what the result is made of and how many of its images are complete, and
the state of the image under way. One process at a time may have a result, see `claim`.
"""

import errno
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from msdtool.atomic import atomic_path, leftovers
from msdtool.data.sinks.result import Result
from msdtool.errors import Error
from msdtool.file_errors import cannot_write
from msdtool.lock import InUseError, Lock, has_trace
from msdtool.private import is_own


def claim(path: Path) -> Lock:
    """Keep other processes from writing a result, until the lock is released.

    Raises:
        Error: another process is writing it, or nobody can.
    """
    with cannot_write(path):
        try:
            return Lock(_lock_file(path))
        except InUseError as holder:
            raise Error(
                f"{path}: {holder} is writing this result; wait for it to end, or stop it"
            ) from None


def tidy(path: Path) -> None:
    """Remove what a process left that was killed when its result was just complete."""
    if has_trace(_lock_file(path)):
        with suppress(Error, OSError):
            lock = claim(path)
            Journal(path).remove()
            lock.release()


def _lock_file(path: Path) -> Path:
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name}.lock")


class Past(NamedTuple):
    """What an earlier try left of a result.

    Attributes:
        done: number of images that are complete.
        state: what that try saved last besides; None: nothing. It may be about an image that was
            completed later.
    """

    done: int
    state: bytes | None


class Journal:
    """The record of one result.

    Args:
        path: where the result will be when it is complete.

    Attributes:
        target: that place, or what it links to.
    """

    def __init__(self, path: Path) -> None:
        self.target = Path(os.path.realpath(path))
        self._journal = self.target.with_name(f".{self.target.name}.part.json")
        self._state = self.target.with_name(f".{self.target.name}.part.state")

    def past(self, result: Result) -> Past | None:
        """Return what an earlier try left; None if it left nothing, or of another origin."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = self._read()
            same = found["result"] == json.loads(json.dumps(result.identity))
            if same and self.partial():
                return Past(min(int(found["done"]), result.num_images), self._read_state())
        return None

    def partial(self) -> Path:
        """Return where the try lies that the record is about.

        Raises:
            OSError, ValueError, KeyError, TypeError: there is no record, or a damaged one.
        """
        partial = self.target.with_name(self._read()["partial"])
        if partial not in leftovers(self.target) or not is_own(partial.lstat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(partial))
        return partial

    def _read(self) -> Any:
        return json.loads(self._journal.read_text(encoding="utf-8"))

    def _read_state(self) -> bytes | None:
        with suppress(OSError):
            return self._state.read_bytes()
        return None

    def save(self, partial: Path, result: Result, done: int, state: bytes) -> None:
        """Record on disk that the first ``done`` images are complete; see `Sink.save`."""
        record = {"partial": partial.name, "done": done, "result": result.identity}
        with atomic_path(self._journal, is_claimed=True) as file:
            file.write_text(json.dumps(record), encoding="utf-8")
        if state:
            with atomic_path(self._state, is_claimed=True) as file:
                file.write_bytes(state)

    def remove(self) -> None:
        """Remove the record, what is written of the result, and what was begun of both."""
        for unfinished in leftovers(self.target, self._journal, self._state):
            _remove(unfinished)
        self._journal.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Remove a file or a folder with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

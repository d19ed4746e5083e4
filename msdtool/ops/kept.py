"""Work on an image in strips that goes on where it was stopped."""

import errno
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from msdtool.atomic import atomic_path
from msdtool.ops.passes import Pass, Planner
from msdtool.ops.store import FileStore, Store

if sys.platform != "win32":
    import fcntl

SECONDS_BETWEEN_NOTES = 30.0
CHANNELS = "channels"
"""Name of the file that `msdtool.ops.store.FileStore` keeps in the folder."""


@dataclass(frozen=True)
class Work:
    """What is left to do.

    Attributes:
        passes: that are not finished.
        slices: of the first of them that are done.
        num_channels: that the store has room for.
    """

    passes: list[Pass]
    slices: int
    num_channels: int


@dataclass(frozen=True)
class Progress:
    """What is done.

    Attributes:
        first: layers, all of them.
        stop: layers that some slices have, too.
        slices: their number.
        num_channels: that the file has room for.
    """

    first: int
    stop: int
    slices: int
    num_channels: int


def new_work(planner: Planner) -> Work:
    """All of it.

    Raises:
        ValueError: it does not fit the memory.
    """
    passes = planner.passes()
    return Work(passes, 0, planner.network.channels_before(passes[-1].layers.start))


def past_work(planner: Planner, folder: Path, *, has_output: bool) -> Work | None:
    """What an earlier try has left, if there is one and its passes fit the memory.

    Args:
        planner: cuts the layers.
        folder: where the earlier try was.
        has_output: what it has written of the output is still there.
    """
    with suppress(OSError, ValueError, TypeError):
        past = Progress(**json.loads(_file(folder).read_text(encoding="utf-8")))
        network, channels = planner.network, folder / CHANNELS
        size = past.num_channels * math.prod(planner.space) * planner.like.element_size()
        if channels.stat().st_size != size:
            return None
        last_start = (past.num_channels - network.c_in) // network.width
        if past.slices == planner.space[0] and past.stop < network.depth:
            return Work(planner.passes(past.stop, last_start), 0, past.num_channels)
        under_way = planner.one(range(past.first, past.stop))
        if under_way is None or (past.stop == network.depth and not has_output):
            return Work(planner.passes(past.first, last_start), 0, past.num_channels)
        is_last = past.stop == network.depth
        rest = [] if is_last else planner.passes(past.stop, last_start)
        return Work([under_way, *rest], past.slices, past.num_channels)
    return None


@contextmanager
def kept_folder(folder: Path) -> Iterator[None]:
    """Have a folder to oneself; it goes when the work is done, or stopped before a first note.

    Raises:
        OSError: another process works in it, or it cannot be made.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    with _lock(folder):
        try:
            yield
        except BaseException:
            if not _file(folder).exists():
                forget(folder)
            raise
        forget(folder)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep off other processes of this machine; nobody on Windows."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another process is at the same work", str(folder)) from None
    finally:
        os.close(descriptor)


def forget(folder: Path) -> None:
    """Remove what work leaves in a folder, and the folder if there is nothing else."""
    for file in (_file(folder), folder / CHANNELS):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


class Journal:
    """Notes in a folder how far the work is.

    Args:
        folder: where; None notes nothing.
        store: the channels, which are put on disk before.
        save_output: likewise the output; None: that begins anew.
    """

    def __init__(
        self, folder: Path | None, store: Store, save_output: Callable[[], None] | None
    ) -> None:
        self.folder, self.store, self.save_output = folder, store, save_output
        self.noted = time.monotonic()

    def begin(self) -> None:
        """Forget earlier notes: the channels begin anew."""
        if self.folder is not None:
            _file(self.folder).unlink(missing_ok=True)

    def note(self, layers: range, slices: int, *, is_last: bool, now: bool) -> None:
        """Have a later try go on behind the slices that have some layers.

        Args:
            layers: that are being computed.
            slices: that have them.
            is_last: these are the last layers, and the slices have output.
            now: even if the last note is young.
        """
        if self.folder is None or not isinstance(self.store, FileStore):
            return
        if is_last and self.save_output is None:
            return
        if not now and time.monotonic() - self.noted < SECONDS_BETWEEN_NOTES:
            return
        os.fsync(self.store.file)
        if is_last and self.save_output is not None:
            self.save_output()
        progress = Progress(layers.start, layers.stop, slices, self.store.num_channels)
        with atomic_path(_file(self.folder)) as file:
            file.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        self.noted = time.monotonic()


def _file(folder: Path) -> Path:
    return folder / "progress.json"

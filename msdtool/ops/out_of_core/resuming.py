"""The progress of a strip-wise computation, and how a later call resumes it.

The channels lie in a file that outlives the process. How far they are computed is a `State`, plain
data that the caller stores together with what has been written of the output.
"""

import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from msdtool.errors import DoesNotFit
from msdtool.lock import LOCK_NAME, Lock
from msdtool.ops.out_of_core.planner import Pass, Planner
from msdtool.ops.out_of_core.store import FileStore, Store, TensorStore
from msdtool.private import is_own, private_folder

SECONDS_BETWEEN_SAVES = 30.0
CHANNELS = "channels"

State = Mapping[str, Any]
"""Integers and strings by name."""


@dataclass(frozen=True)
class Resume:
    """How a computation is kept for a later call.

    Attributes:
        folder: holds the file of channels until the computation is complete; this user's alone.
        save: called periodically; flushes to disk what was written of the output, then stores the
            state it is given.
        past: the state that an earlier call stored last, if the output of that call still exists.
    """

    folder: Path
    save: Callable[[State], None]
    past: State | None = None


@dataclass(frozen=True)
class Work:
    """What is left to do.

    Attributes:
        passes: those that are not complete.
        slices: number of slices of the first of them that are complete.
        num_channels: channels that the store has room for.
    """

    passes: list[Pass]
    slices: int
    num_channels: int


@dataclass(frozen=True)
class _Done:
    """What is complete: the content of a state.

    Attributes:
        channels: name of the file; the state says nothing about any other file.
        first: layers that all slices have.
        stop: layers that some slices have.
        slices: number of these slices.
        num_channels: channels that the file has room for.
    """

    channels: str
    first: int
    stop: int
    slices: int
    num_channels: int


class Computation:
    """A computation in strips: what is left of it, its channels, and how a later call resumes it.

    Args:
        work: what was left to do at the start.
        store: the channels.
        resume: keeps it for a later call; None: nothing is kept.
        channels: name of the store's file.
        is_new: whether the store is still empty.
    """

    def __init__(
        self,
        work: Work,
        store: Store,
        resume: Resume | None = None,
        channels: str = CHANNELS,
        *,
        is_new: bool = True,
    ) -> None:
        self.work, self.store, self.is_new = work, store, is_new
        self.resume, self.channels = resume, channels
        self.saved = time.monotonic()
        self.can_resume = not is_new

    def save(self, layers: range, slices: int, *, now: bool) -> None:
        """Have a later call resume after the slices that have some layers.

        Args:
            layers: the layers.
            slices: number of slices that have them.
            now: even if the last save was a short time ago.
        """
        if self.resume is None or not isinstance(self.store, FileStore):
            return
        if not now and time.monotonic() - self.saved < SECONDS_BETWEEN_SAVES:
            return
        # The state is stored last: whatever it refers to is on disk by then.
        os.fsync(self.store.file)
        done = _Done(self.channels, layers.start, layers.stop, slices, self.store.num_channels)
        self.resume.save(asdict(done))
        self.can_resume = True
        self.saved = time.monotonic()


@contextmanager
def open_computation(
    planner: Planner, buffer: str, directory: str | Path | None, resume: Resume | None
) -> Iterator[Computation]:
    """Open the channels of an image, and find what is left to compute.

    Args:
        planner: cuts the layers into passes.
        buffer: "disk", "host" or "device"; see `msd_module_streamed`.
        directory: holds the temporary file of a computation that is not kept.
        resume: keeps the channels for a later call, which needs buffer "disk"; None: they go when
            the block is left.

    Raises:
        InUseError: another process computes the same.
        DoesNotFit: the layers do not fit the memory.
        OSError: the channels do not fit the disk, or the folder cannot be created, or is another
            user's.
    """
    space, like = planner.space, planner.like
    if resume is not None:
        with _kept(planner, resume) as computation:
            yield computation
        return
    work = _all_work(planner)
    if buffer == "disk":
        with (
            TemporaryDirectory(prefix="msdtool-", dir=directory) as folder,
            closing(FileStore(Path(folder) / CHANNELS, work.num_channels, space, like)) as file,
        ):
            yield Computation(work, file)
        return
    device = like.device if buffer == "device" else torch.device("cpu")
    with closing(TensorStore(work.num_channels, space, like, device)) as memory:
        yield Computation(work, memory)


@contextmanager
def _kept(planner: Planner, resume: Resume) -> Iterator[Computation]:
    """Open the channels that an earlier call left, or new ones; they go when all is computed."""
    folder = resume.folder
    private_folder(folder)
    lock = Lock(folder / LOCK_NAME)
    can_resume = False
    try:
        done = _found(planner, resume)
        can_resume = done is not None
        work = _remaining_work(planner, done) if done else None
        if done is None or work is None:
            work = _all_work(planner)
            # A name of its own: a state of an earlier file must not be taken for one of this.
            name, is_new, can_resume = f"{CHANNELS}-{secrets.token_hex(8)}", True, False
            _remove_channels(folder)
        else:
            name, is_new = done.channels, False
        with closing(
            FileStore(folder / name, work.num_channels, planner.space, planner.like, is_new=is_new)
        ) as store:
            computation = Computation(work, store, resume, name, is_new=is_new)
            try:
                yield computation
            finally:
                can_resume = computation.can_resume
        can_resume = False
    finally:
        if not can_resume:
            _remove_channels(folder)
        lock.release()
        with suppress(OSError):  # it holds other files
            folder.rmdir()


def _remove_channels(folder: Path) -> None:
    for file in folder.glob(f"{CHANNELS}-*"):
        file.unlink()


def _found(planner: Planner, resume: Resume) -> _Done | None:
    """Return what an earlier call has completed; None if there was none or its file is gone."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        done = _Done(**(resume.past or {}))
        files = {file.name: file for file in resume.folder.glob(f"{CHANNELS}-*")}
        size = done.num_channels * math.prod(planner.space) * planner.like.element_size()
        status = files[done.channels].lstat()
        if is_own(status) and status.st_size == size:
            return done
    return None


def _all_work(planner: Planner) -> Work:
    """Return the work on a new image.

    Raises:
        DoesNotFit: it does not fit the memory.
    """
    passes = planner.passes()
    return Work(passes, 0, planner.network.channels_before(passes[-1].layers.start))


def _remaining_work(planner: Planner, done: _Done) -> Work | None:
    """Return the work that is left; None if it does not fit the memory in any way of cutting it."""
    network, num_channels = planner.network, done.num_channels
    # The channels from there on have no room in the file: the last pass has to compute them.
    last_start = (num_channels - network.c_in) // network.width
    with suppress(ValueError, TypeError, DoesNotFit):
        if done.slices == planner.space[0] and done.stop < network.depth:
            return Work(planner.passes(done.stop, last_start), 0, num_channels)
        under_way = planner.one(range(done.first, done.stop))
        if under_way is None:
            return Work(planner.passes(done.first, last_start), 0, num_channels)
        is_last = done.stop == network.depth
        rest = [] if is_last else planner.passes(done.stop, last_start)
        return Work([under_way, *rest], done.slices, num_channels)
    return None

"""Work on an image in strips that goes on where it was stopped."""

import json
import math
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from msdtool.atomic import atomic_path
from msdtool.ops.passes import Pass, Planner
from msdtool.ops.store import FileStore, Store

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


def past_work(planner: Planner, folder: Path) -> Work | None:
    """What an earlier try has left, if there is one and its passes fit the memory."""
    with suppress(OSError, ValueError, TypeError):
        past = Progress(**json.loads(_file(folder).read_text(encoding="utf-8")))
        network, channels = planner.network, folder / CHANNELS
        size = past.num_channels * math.prod(planner.space) * planner.like.element_size()
        if channels.stat().st_size != size:
            return None
        last_start = (past.num_channels - network.c_in) // network.width
        if past.slices == planner.space[0]:
            return Work(planner.passes(past.stop, last_start), 0, past.num_channels)
        under_way = planner.one(range(past.first, past.stop))
        if under_way is None:
            return Work(planner.passes(past.first, last_start), 0, past.num_channels)
        rest = planner.passes(past.stop, last_start)
        return Work([under_way, *rest], past.slices, past.num_channels)
    return None


def has_progress(folder: Path) -> bool:
    """Whether a later try can go on from a folder."""
    return _file(folder).exists()


class Journal:
    """Notes in a folder how far the work is.

    Args:
        folder: where; None notes nothing.
        store: the channels, which are put on disk before.
    """

    def __init__(self, folder: Path | None, store: Store) -> None:
        self.folder, self.store = folder, store
        self.noted = time.monotonic()

    def note(self, layers: range, slices: int, *, now: bool) -> None:
        """Have a later try go on behind the slices that have some layers.

        Args:
            layers: that are being computed.
            slices: that have them.
            now: even if the last note is young.
        """
        if self.folder is None or not isinstance(self.store, FileStore):
            return
        if not now and time.monotonic() - self.noted < SECONDS_BETWEEN_NOTES:
            return
        os.fsync(self.store.file)
        progress = Progress(layers.start, layers.stop, slices, self.store.num_channels)
        with atomic_path(_file(self.folder)) as file:
            file.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        self.noted = time.monotonic()


def _file(folder: Path) -> Path:
    return folder / "progress.json"

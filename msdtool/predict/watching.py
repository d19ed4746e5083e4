"""Prediction of files as they arrive in a folder, each once it is complete."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msdtool.data.readers import count_images
from msdtool.data.specifiers import Location
from msdtool.errors import ConfigError, InputError
from msdtool.predict.inputs import Inputs
from msdtool.predict.jobs import Job, check_outputs
from msdtool.predict.predictor import Predictor
from msdtool.predict.work import Prediction, predict

log = logging.getLogger(__name__)

SETTLED_SECONDS = 5.0
"""A file that has not changed for so long is complete."""
SECONDS_BETWEEN_LOOKS = 1.0

State = tuple[int, int, int]
"""Number of files, bytes in all, and the time of the last change in nanoseconds."""


class Arrivals:
    """Finds out which files have become complete since the last look.

    Args:
        find: lists the files that are there.
        clock: seconds from any start, never set back.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Location]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._clock = find, clock
        self._seen: dict[Location, tuple[State, float]] = {}
        self._given: dict[Location, State] = {}

    def look(self) -> list[Location]:
        """Return the files that are complete and new, or complete and changed since they were."""
        now, complete = self._clock(), []
        for location in self._find():
            try:
                state = _state(location.path)
            except FileNotFoundError:  # renamed or removed meanwhile
                continue
            before, since = self._seen.setdefault(location, (state, now))
            if before != state:
                self._seen[location] = state, now
            elif state[1] and now - since >= SETTLED_SECONDS and self._given.get(location) != state:
                self._given[location] = state
                complete.append(location)
        return complete


def _state(path: Path) -> State:
    """What changes while a file, or a folder that is a zarr store, is written."""
    status = path.stat()
    if not path.is_dir():
        return 1, status.st_size, status.st_mtime_ns
    files = [Path(folder, name).stat() for folder, _, names in os.walk(path) for name in names]
    newest = max((file.st_mtime_ns for file in files), default=0)
    return len(files), sum(file.st_size for file in files), newest


def watch(
    predictor: Predictor,
    arrivals: Arrivals,
    plan: Callable[[Sequence[Location]], list[Job]],
    *,
    idle_seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Prediction]:
    """Predict files as they become complete; existing results stay unless their input changes.

    A file that cannot be used is reported in the log and tried again when it changes.

    Args:
        predictor: the network.
        arrivals: the files.
        plan: returns the job of each of some files.
        idle_seconds: end when nothing has arrived for so long; None: go on.
        stop: asked periodically; once it returns True, the iterator ends.
        wait: passes some seconds.
        clock: seconds from any start, never set back.

    Raises:
        InputError: at the end, if a file could not be used.
        ConfigError: the results of two files would have the same name, or the network needs
            neighbours of each slice.
        Error: a result cannot be written.
    """
    known: dict[Location, None] = {}
    refused: dict[Location, str] = {}
    last: float | None = None
    while not stop():
        arrived = arrivals.look()
        for location in arrived:
            is_changed = location in known and location not in refused
            known[location] = None
            job = {job.location: job for job in plan(list(known))}[location]
            try:
                _check_neighbours(predictor, location)
                check_outputs([job], job.output.parent, overwrite=True)
                yield from predict(
                    predictor,
                    [job],
                    Inputs(predictor, [[location]], job.region),
                    skip_existing=not is_changed,
                    stop=stop,
                )
                refused.pop(location, None)
            except InputError as error:
                log.warning(f"{error.message}; it is tried again when it changes")
                refused[location] = error.message
            if stop():
                return
        if arrived or last is None:
            last = clock()
        elif idle_seconds is not None and clock() - last >= idle_seconds:
            break
        wait(SECONDS_BETWEEN_LOOKS)
    if refused:
        raise InputError(
            f"{len(refused)} of {len(known)} files could not be used, such as "
            f"{next(iter(refused.values()))}"
        )


def _check_neighbours(predictor: Predictor, location: Location) -> None:
    """Refuse single slices where the ones around them, which may still come, change the result."""
    if predictor.model.slab and count_images(location, predictor.ndim) == 1:
        raise ConfigError(
            f"watch: {location}: the network needs {predictor.model.slab} slices above and below "
            "each one, which may still come; predict the folder when it is complete"
        )

"""Doing the jobs: read, compute and write at the same time, image by image."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdtool.data.readers import arrangement, image_name
from msdtool.data.sinks import Result, Sink, images_done, open_sink
from msdtool.data.specifiers import Location
from msdtool.errors import Error
from msdtool.predict.jobs import Job
from msdtool.predict.predictor import Predictor

SECONDS_BETWEEN_SAVES = 10.0

Tick = Callable[[int, float], None]
"""Told the number of a job and how many of its images are done."""


@dataclass(frozen=True)
class Prediction:
    """A job that is done.

    Attributes:
        job: what was to do.
        skipped: its results were there.
        seconds: since the one before.
    """

    job: Job
    skipped: bool
    seconds: float


class _Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The work was asked to stop in the middle of an image."""


def predict(
    predictor: Predictor,
    jobs: Sequence[Job],
    *,
    skip_existing: bool = False,
    anew: bool = False,
    tick: Tick = lambda job, images: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Prediction]:
    """Do the jobs one after the other; each result is written whole or not at all.

    The next image is read and the last one written while one is computed. What is finished of a
    result with several images is kept when the work stops or is killed, and not done again.

    Args:
        predictor: the network.
        jobs: what to do.
        skip_existing: leave out jobs whose results are there.
        anew: forget what an earlier try left.
        tick: called with the number of a job and how many of its images are done.
        stop: asked now and then; when it says so, what is finished is saved and the iterator ends.

    Raises:
        InputError: an image cannot be used; the results of those before it stay.
        Error: a result cannot be written.
    """
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        images = _ReadAhead(predictor, jobs, reader)
        for number, job in enumerate(jobs):
            skipped = skip_existing and job.is_done()
            if not skipped:
                work = _Work(predictor, number, job, tick, stop)
                if not work.run(images, writer, anew):
                    return
            now = time.perf_counter()
            yield Prediction(job, skipped, now - start)
            start = now


class _ReadAhead:
    """Images in memory, the next one read while the last one is used."""

    def __init__(
        self, predictor: Predictor, jobs: Sequence[Job], reader: ThreadPoolExecutor
    ) -> None:
        self.predictor, self.jobs, self.reader = predictor, jobs, reader
        self.ahead: tuple[tuple[int, int], Future[Tensor | None]] | None = None

    def get(self, number: int, index: int, last: bool) -> Tensor | None:
        """Image ``index`` of a job, None if it is too large; begin to read the one after it."""
        key = (number, index)
        if self.ahead is None or self.ahead[0] != key:
            self.ahead = (key, self.reader.submit(self._read, *key))
        image = self.ahead[1].result()
        following = (number + 1, 0) if last else (number, index + 1)
        self.ahead = None
        if following[0] < len(self.jobs) and not (last and self.jobs[number + 1].is_done()):
            self.ahead = (following, self.reader.submit(self._read, *following))
        return image

    def _read(self, number: int, index: int) -> Tensor | None:
        location = self.jobs[number].location
        shape = self.predictor.image_shape(location)
        is_single = arrangement(location, self.predictor.ndim).num_images == 1
        if not self.predictor.fits(shape[1:]) and not self.predictor.augment:
            self.predictor.check_channels(shape[0], str(location))
            return None
        return self.predictor.read(location, None if is_single else index)


class _Work:
    """One job: a file of images, and its results."""

    def __init__(
        self, predictor: Predictor, number: int, job: Job, tick: Tick, stop: Callable[[], bool]
    ) -> None:
        self.predictor, self.number, self.job = predictor, number, job
        self.tick, self.stop = tick, stop
        self.found = arrangement(job.location, predictor.ndim)
        self.num_images = self.found.num_images
        self.sinks: list[Sink] = []
        self.writing: Future[None] | None = None
        self.done = 0

    def run(self, images: _ReadAhead, writer: ThreadPoolExecutor, anew: bool) -> bool:
        """Do what is left to do; say whether that is all of it."""
        results = self._results()
        if not anew:
            self.done = min(images_done(path, result) for path, result in results)
        try:
            for index in range(self.done, self.num_images):
                self._do(index, images, writer, results)
            self._settle()
            for sink in self.sinks:
                sink.finish()
        except BaseException as error:
            self._leave()
            if isinstance(error, _Interrupted):
                return False
            raise
        return True

    def _do(
        self,
        index: int,
        images: _ReadAhead,
        writer: ThreadPoolExecutor,
        results: list[tuple[Path, Result]],
    ) -> None:
        image = images.get(self.number, index, index + 1 == self.num_images)
        name = self._name(index)
        output = None
        if image is not None:
            output = self.predictor(image, name, lambda share: self._tick(index + share))
        self._settle()
        if not self.sinks:
            self.sinks = [
                open_sink(self.job.format, path, result, done=self.done) for path, result in results
            ]
            self.saved = time.monotonic()
        if output is None:
            self._stream(index, name)
            self.done = index + 1
        else:
            self.writing = writer.submit(self._write, index, 0, output)
        if self.num_images > 1 and time.monotonic() - self.saved > SECONDS_BETWEEN_SAVES:
            self._save()
        self._tick(index + 1)

    def _stream(self, index: int, name: str) -> None:
        """Compute an image that does not fit, from file to file."""
        input = _Slices(self.predictor, self.job.location, index, name)
        output = _Writer((self.predictor.c_out, *input.shape[1:]), partial(self._write, index))
        self.predictor.stream(input, output, name, lambda share: self._tick(index + share))

    def _write(self, index: int, start: int, output: Tensor) -> None:
        """Write slices [c_out, n, ...] of the network's output."""
        self.sinks[0].write(index, start, self.predictor.to_image(output))
        if len(self.sinks) > 1:
            self.sinks[1].write(index, start, output.softmax(0).numpy())

    def _settle(self) -> None:
        """Wait until the last image is written."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()
            self.done += 1

    def _save(self) -> None:
        for sink in self.sinks:
            sink.save(self.done)
        self.saved = time.monotonic()

    def _leave(self) -> None:
        """Keep the finished images of a result that has several, for a later try."""
        with suppress(Error):
            self._settle()
        for sink in self.sinks:
            if self.num_images > 1 and self.done:
                with suppress(Error):
                    sink.save(self.done)
                sink.close()
            else:
                sink.discard()

    def _tick(self, images: float) -> None:
        self.tick(self.number, images)
        if images < self.num_images and self.stop():
            raise _Interrupted

    def _name(self, index: int) -> str:
        return image_name(self.job.location, None if self.num_images == 1 else index)

    def _results(self) -> list[tuple[Path, Result]]:
        """Where the results go and what they hold."""
        found, predictor, location = self.found, self.predictor, self.job.location
        state = location.path.stat()
        origin = {
            "input": str(location),
            "axes": found.axes,
            "changed": state.st_mtime_ns,
            "model": predictor.digest,
        }
        counts = tuple(found.shape[axis] for axis in found.counting)
        names = "".join(found.axes[axis] for axis in found.counting)
        space = found.image_shape[1:]

        def result(channels: int, dtype: str) -> Result:
            return Result(counts, names, (channels, *space), dtype, origin, location.inner)

        is_labels = predictor.label_map is not None
        main = result(1 if is_labels else predictor.c_out, str(predictor.result_dtype))
        results = [(self.job.output, main)]
        if self.job.probabilities is not None:
            results.append((self.job.probabilities, result(predictor.c_out, "float32")))
        return results


class _Slices:
    """An image in a file as an array [c_in, *space] that is read by ranges of slices."""

    def __init__(self, predictor: Predictor, location: Location, index: int, name: str) -> None:
        self.predictor, self.location, self.index, self.name = predictor, location, index, name
        self.shape = predictor.image_shape(location)

    def __getitem__(self, key: Any) -> Any:
        region = (key[1], *(slice(0, size) for size in self.shape[2:]))
        pixels = self.predictor.read_region(self.location, self.index, region)
        self.predictor.check(pixels, self.name)
        return pixels.numpy()

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("the input is only read")


class _Writer:
    """An array [c_out, *space] whose slices are written to the results."""

    def __init__(self, shape: tuple[int, ...], write: Callable[[int, Tensor], None]) -> None:
        self.shape, self.write = shape, write

    def __getitem__(self, key: Any) -> Any:
        raise TypeError("the output is only written")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.write(key[1].start, torch.from_numpy(value))

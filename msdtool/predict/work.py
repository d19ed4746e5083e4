"""Doing the jobs: read, compute and write at the same time, image by image."""

import hashlib
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from msdtool.data.sinks import Sink, images_done, open_sink, saved_state
from msdtool.errors import Error, InputError
from msdtool.nn.series import SeriesNetwork
from msdtool.ops.kept import forget
from msdtool.predict.inputs import Inputs, ReadAhead, Slices, WrittenSlices
from msdtool.predict.jobs import Job, results_of
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
    inputs: Inputs | None = None,
    *,
    skip_existing: bool = False,
    anew: bool = False,
    tick: Tick = lambda job, images: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Prediction]:
    """Do the jobs one after the other; each result is written whole or not at all.

    The next image is read and the last one written while one is computed. What is finished of a
    result with several images, or of a series, is kept when the work stops or is killed, and not
    done again.

    Args:
        predictor: the network.
        jobs: what to do.
        inputs: the images of these and other files; None takes those of the jobs' files alone.
        skip_existing: leave out jobs whose results are there.
        anew: forget what an earlier try left.
        tick: called with the number of a job and how many of its images are done.
        stop: asked now and then; when it says so, what is finished is saved and the iterator ends.

    Raises:
        InputError: an image cannot be used; the results of those before it stay.
        Error: a result cannot be written.
    """
    inputs = inputs or Inputs(predictor, [[job.location for job in jobs]])
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = ReadAhead(inputs, reader)
        for number, job in enumerate(jobs):
            skipped = skip_existing and job.is_done()
            if not skipped:
                following = None
                if number + 1 < len(jobs) and not (skip_existing and jobs[number + 1].is_done()):
                    following = inputs.images(jobs[number + 1]).start
                work = _Work(predictor, inputs, job, partial(tick, number), stop)
                if not work.run(ahead, following, writer, anew):
                    return
            now = time.perf_counter()
            yield Prediction(job, skipped, now - start)
            start = now


class _Work:
    """One job: a file of images, and its results."""

    def __init__(
        self,
        predictor: Predictor,
        inputs: Inputs,
        job: Job,
        tick: Callable[[float], None],
        stop: Callable[[], bool],
    ) -> None:
        self.predictor, self.inputs, self.job = predictor, inputs, job
        self.tick, self.stop = tick, stop
        self.images = inputs.images(job)
        self.results = results_of(job, predictor)
        self.sinks: list[Sink] = []
        self.writing: Future[None] | None = None
        self.writing_strip: Future[None] | None = None
        self.is_new, self.anew = True, False
        self.done = 0
        self.frames = 0  # of the next image, a series, that are done
        self.has_strips = False  # of the next image, that are written
        self.saved = time.monotonic()

    def run(
        self, ahead: ReadAhead, following: int | None, writer: ThreadPoolExecutor, anew: bool
    ) -> bool:
        """Do what is left to do; say whether that is all of it.

        Args:
            ahead: gives the images.
            following: the image that another job begins with.
            writer: writes the results.
            anew: forget what an earlier try left.
        """
        self.anew = anew
        if not anew:
            self._look_back()
        try:
            for index in self.images[self.done :]:
                image = ahead.get(index, index + 1 if index + 1 in self.images else following)
                self._do(index, image, writer)
            self._settle()
            for sink in self.sinks:
                sink.finish()
        except BaseException as error:
            if isinstance(error, InputError):
                self.frames = 0  # a series that goes wrong is not worth keeping
            self._leave()
            if isinstance(error, _Interrupted):
                return False
            raise
        return True

    def _do(self, index: int, image: Tensor | None, writer: ThreadPoolExecutor) -> None:
        number, name = index - self.images.start, self.inputs.stack.name(index)
        output = None
        if image is not None:
            output = self.predictor(image, name, lambda share: self._tick(number + share))
        self._settle()
        if not self.sinks:
            # Not before: a first image that is bad leaves no trace.
            self.sinks = [
                open_sink(self.job.format, path, result, is_new=self.is_new)
                for path, result in self.results
            ]
        if output is None:
            self._stream(index, number, name, writer)
            self.done = number + 1
        else:
            self.writing = writer.submit(self._write, number, 0, output)
        if len(self.images) > 1 and time.monotonic() - self.saved > SECONDS_BETWEEN_SAVES:
            self._save()
        self._tick(number + 1)

    def _stream(self, index: int, number: int, name: str, writer: ThreadPoolExecutor) -> None:
        """Compute an image that does not fit, or a series, from file to file."""
        if self.predictor.series is not None:
            self._follow(self.predictor.series, index, number, name)
            return
        input = Slices(self.inputs, index)

        def write(start: int, output: Tensor) -> None:
            self._settle_strip()
            self.writing_strip = writer.submit(self._write, number, start, output)

        output = WrittenSlices((self.predictor.c_out, *input.shape[1:]), write)
        keep = self._channels(number)
        if self.anew:
            forget(keep)
        self.predictor.stream(
            input,
            output,
            name,
            lambda share: self._tick(number + share),
            keep=keep,
            save_output=self._save_strips,
            has_output=not self.is_new,
        )
        self._settle_strip()
        self.has_strips = False

    def _settle_strip(self) -> None:
        """Wait until the last strip is written."""
        if self.writing_strip is not None:
            writing, self.writing_strip = self.writing_strip, None
            writing.result()

    def _save_strips(self) -> None:
        self._settle_strip()
        self.has_strips = True
        self._save()

    def _channels(self, number: int) -> Path:
        """Where the channels of an image in strips lie until it is done, for a later try, too."""
        path, result = self.results[0]
        facts = json.dumps([str(path.absolute()), number, asdict(result)])
        name = f"msdtool-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
        return (self.predictor.scratch or Path(tempfile.gettempdir())) / name

    def _follow(self, network: SeriesNetwork, index: int, number: int, name: str) -> None:
        """Compute a series a few frames at a time; the network remembers what it needs."""
        num_frames = self.inputs.stack.space(index)[network.axis]
        if self.frames == 0:
            network.clear_state()
        pieces = self.inputs.pieces(index, network.axis, network.dt, self.frames)
        for start, piece in pieces:
            self._write(number, start, self.predictor.advance(piece, name), network.axis)
            self.frames = min(start + network.dt, num_frames)
            if time.monotonic() - self.saved > SECONDS_BETWEEN_SAVES:
                self._save()
            self._tick(number + self.frames / num_frames)
        self.frames = 0
        network.clear_state()

    def _write(self, index: int, start: int, output: Tensor, axis: int = 0) -> None:
        """Write slices of the network's output across a spatial axis; see `Sink.write`."""
        self.sinks[0].write(index, start, self.predictor.to_image(output), axis)
        if len(self.sinks) > 1:
            self.sinks[1].write(index, start, output.softmax(0).numpy(), axis)

    def _settle(self) -> None:
        """Wait until the last image is written."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()
            self.done += 1

    def _save(self) -> None:
        """Have a later try go on from here."""
        # The state is saved last: by then, whatever it goes on from is there.
        for sink in reversed(self.sinks):
            sink.save(self.done, self._state() if sink is self.sinks[0] else b"")
        self.saved = time.monotonic()

    def _state(self) -> bytes:
        """What it takes to go on in the middle of a series; nothing where there is none."""
        series = self.predictor.series
        if series is None or self.frames == 0:
            return b""
        state = {"image": self.done, "frames": self.frames, "network": series.get_state()}
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    def _look_back(self) -> None:
        """Go on where an earlier try has come to."""
        found = [images_done(path, result) for path, result in self.results]
        counts = [count for count in found if count is not None]
        if len(counts) < len(self.results):
            return
        self.is_new, self.done = False, min(counts)
        state = saved_state(self.results[0][0])
        if self.predictor.series is None or state is None:
            return
        with suppress(Exception):  # whatever torch stumbles over in a damaged file
            past = torch.load(io.BytesIO(state), "cpu", weights_only=True)
            if past["image"] == self.done:
                self.predictor.series.set_state(past["network"])
                self.frames = int(past["frames"])

    def _leave(self) -> None:
        """Keep what is finished of several images, or of a series, for a later try."""
        for settle in (self._settle, self._settle_strip):
            with suppress(Error):
                settle()
        if (len(self.images) > 1 and self.done) or self.frames or self.has_strips:
            with suppress(Error):
                self._save()
            for sink in self.sinks:
                sink.close()
        else:
            for sink in self.sinks:
                sink.discard()

    def _tick(self, images: float) -> None:
        self.tick(images)
        if images < len(self.images) and self.stop():
            raise _Interrupted

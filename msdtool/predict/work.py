"""Doing the jobs: read, compute and write, image by image."""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from msdtool.data.sinks import tidy
from msdtool.errors import InputError
from msdtool.nn.series import SeriesNetwork
from msdtool.ops.out_of_core.resuming import Resume, State
from msdtool.predict.inputs import Inputs, ReadAhead, Slices, WrittenSlices
from msdtool.predict.jobs import Job
from msdtool.predict.predictor import Predictor
from msdtool.predict.results import Results
from msdtool.progress import Progress, no_progress
from msdtool.wording import size_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A job that is done.

    Attributes:
        job: the job.
        skipped: its results existed already.
        seconds: time since the previous job.
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
    overwrite: bool = False,
    progress: Progress = no_progress,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Prediction]:
    """Do the jobs one after the other; each result is written completely or not at all.

    The next image is read and the previous one written while one is computed. When the work stops
    or is killed, what is complete of a result is kept: images of a file that holds several, frames
    of a series, strips of an image that is computed in strips. A later call resumes from there.

    Args:
        predictor: the network.
        jobs: what to do.
        inputs: the images of these and other files; None opens those of the jobs alone.
        skip_existing: skip jobs whose results exist.
        overwrite: start from scratch instead of resuming what an earlier call left.
        progress: called with the number of images that are done, the number of images of all jobs,
            and the name of the file.
        stop: asked periodically; once it returns True, what is complete is saved and the iterator
            ends.

    Raises:
        InputError: an image cannot be used; the results of those before it stay.
        Error: a result cannot be written.
    """
    files = [file for job in jobs for file in job.slices or [job.location]]
    inputs = inputs or Inputs(predictor, [files], jobs[0].region if jobs else None)
    start = time.perf_counter()
    total = sum(len(inputs.images(job)) for job in jobs)
    before = 0
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = ReadAhead(inputs, reader)
        for number, job in enumerate(jobs):
            images = inputs.images(job)
            skipped = skip_existing and job.is_done()
            if not skipped:
                if job.slices:
                    _check_sizes(inputs, images)
                following = None
                if number + 1 < len(jobs) and not (skip_existing and jobs[number + 1].is_done()):
                    following = inputs.images(jobs[number + 1]).start
                report = _Report(progress, stop, before, len(images), total, job.input.name)
                results = Results(job, predictor, writer, overwrite=overwrite)
                work = _Work(predictor, inputs, images, results, report)
                if not work.run(ahead, following):
                    return
            before += len(images)
            if skipped:
                for path in job.outputs:
                    tidy(path)
                progress(before, total, job.input.name)
            now = time.perf_counter()
            yield Prediction(job, skipped, now - start)
            start = now


def _check_sizes(inputs: Inputs, images: range) -> None:
    """Raise InputError if files that become one result differ in size."""
    stack, first = inputs.stack, images.start
    for index in images:
        if stack.space(index) != stack.space(first):
            sizes = size_text(stack.space(index)), size_text(stack.space(first))
            raise InputError(
                f"{stack.name(index)}: has {sizes[0]} pixels, and {stack.name(first)} {sizes[1]}: "
                "slices of one stack must have the same size"
            )


@dataclass(frozen=True)
class _Report:
    """Tells how far a job is, and ends it when the work should stop."""

    progress: Progress
    stop: Callable[[], bool]
    before: int  # images of earlier jobs
    num_images: int
    total: int
    name: str

    def __call__(self, images: float) -> None:
        self.progress(self.before + images, self.total, self.name)
        if images < self.num_images and self.stop():
            raise _Interrupted


@dataclass(frozen=True)
class _Work:
    """One job: the images of a file, and where their predictions go."""

    predictor: Predictor
    inputs: Inputs
    images: range
    results: Results
    report: _Report

    def run(self, ahead: ReadAhead, following: int | None) -> bool:
        """Do what is left to do; return False if the work was asked to stop before the end.

        Args:
            ahead: reads the images.
            following: the image that the next job begins with.
        """
        try:
            for index in self.images[self.results.done :]:
                image = ahead.get(index, index + 1 if index + 1 in self.images else following)
                self._predict(index, image)
                if len(self.images) > 1:
                    self.results.save_now_and_then()
                self.report(index - self.images.start + 1)
            self.results.finish()
        except _Interrupted:
            self.results.leave()
            return False
        except BaseException:
            self.results.leave()
            raise
        return True

    def _predict(self, index: int, image: Tensor | None) -> None:
        number, name = index - self.images.start, self.inputs.stack.name(index)

        def progress(done: float, total: float, _note: str = "") -> None:
            self.report(number + done / total)

        if image is not None:
            self.results.state = None
            levels = self.inputs.levels(index, image)
            output = self.predictor(image, name, progress, levels)
            # Not earlier: a first image that is bad leaves no trace.
            self.results.open()
            self.results.write(number, 0, output, completes=True)
            return
        self.results.open()
        if self.predictor.series is not None:
            self._predict_series(self.predictor.series, index, name, progress)
        else:
            self._predict_strips(index, name, progress)
        self.results.complete_image()

    def _predict_strips(self, index: int, name: str, progress: Progress) -> None:
        """Compute an image that does not fit in memory from file to file."""
        number, levels = index - self.images.start, self.inputs.levels(index)
        input, folder = Slices(self.inputs, index), self._channels_folder(number)
        log.debug(f"{name}: is computed in strips; its channels lie in {folder}, or in memory")

        def write(start: int, output: Tensor) -> None:
            self.results.write(number, start, output)

        def save(state: State) -> None:
            self.results.settle()
            self.results.state = {"strips": dict(state)}
            self.results.save()

        output = WrittenSlices((self.predictor.c_out, *input.shape[1:]), write)
        past = (self.results.state or {}).get("strips")
        resume = Resume(folder, save, past)
        own = None if levels is None else levels[0]
        self.predictor.stream(input, output, name, progress, own, resume=resume)

    def _channels_folder(self, number: int) -> Path:
        """Return the folder of the channels of an image in strips: the same for a later try."""
        path, result = self.results.main
        facts = json.dumps([str(path.absolute()), number, result.identity])
        name = f"msdtool-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
        return (self.predictor.scratch or Path(tempfile.gettempdir())) / name

    def _predict_series(
        self, network: SeriesNetwork, index: int, name: str, progress: Progress
    ) -> None:
        """Compute a series a few frames at a time; the network remembers what it needs."""
        number, num_frames = index - self.images.start, self.inputs.stack.space(index)[network.axis]
        network.clear_state()
        first, levels = self._resume_series(network), self.inputs.levels(index)
        pieces = self.inputs.pieces(index, network.axis, network.dt, first)
        try:
            for start, piece in pieces:
                output = self.predictor.advance(piece, name, levels)
                self.results.write(number, start, output, network.axis)
                self.results.settle()
                done = min(start + network.dt, num_frames)
                # A copy: an interrupt may leave the network in the middle of the next frames.
                self.results.state = {"frames": done, "network": network.get_state()}
                self.results.save_now_and_then()
                progress(done, num_frames)
        except InputError:
            self.results.state = None  # a series with a bad frame is not worth keeping
            raise
        finally:
            network.clear_state()

    def _resume_series(self, network: SeriesNetwork) -> int:
        """Bring the network to where an earlier try was stopped; return the next frame."""
        past = self.results.state or {}
        try:
            network.set_state(past["network"])
            return int(past["frames"])
        except Exception:  # whatever torch raises for a damaged state
            self.results.state = None
            network.clear_state()
            return 0

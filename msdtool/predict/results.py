"""The results of a job while they are written: in the background, and kept for a later try."""

import io
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from msdtool.data.sinks import Journal, Sink, claim, open_sink
from msdtool.errors import Error
from msdtool.predict.contents import results_of, within_window
from msdtool.predict.encoding import Encoder
from msdtool.predict.jobs import Job
from msdtool.predict.plausibility import num_unusable, unusable_text
from msdtool.predict.predictor import Predictor
from msdtool.predict.regions import cropped

log = logging.getLogger(__name__)

SECONDS_BETWEEN_SAVES = 10.0

State = dict[str, Any]
"""Tensors and plain data by name."""


class _Writing(NamedTuple):
    """What is being written: when it is, ``done`` images are complete."""

    future: Future[None]
    done: int


class Results:
    """The files of one job, to which its images are written one after the other.

    Until `finish` or `leave`, no other process can write them.

    Args:
        job: names them.
        predictor: turns the network's output into what they hold.
        writer: writes, one piece at a time, while the caller computes the next.
        overwrite: start from scratch instead of resuming what an earlier try left.

    Attributes:
        main: path and content of the first result, which every job has.
        done: number of images that are complete.
        state: what is needed to resume the next image; None: that one starts from scratch.

    Raises:
        Error: another process is writing the files, or nobody can.
    """

    def __init__(
        self, job: Job, predictor: Predictor, writer: ThreadPoolExecutor, *, overwrite: bool
    ) -> None:
        self._job, self._predictor, self._writer = job, predictor, writer
        self._results = results_of(job, predictor)
        main = self._results[0][1]
        packing = main.description.packing
        self._encode = Encoder(np.dtype(main.dtype), packing, str(job.output))
        self._within = within_window(job, predictor)
        self._locks = [claim(path) for path in job.outputs]
        self.main = self._results[0]
        self.done = 0
        self.state: State | None = None
        self._is_new = overwrite or not self._look_back()
        self._sinks: list[Sink] = []
        self._writing: _Writing | None = None
        self._unusable = self._total = 0
        self._saved = time.monotonic()

    def _look_back(self) -> bool:
        """Find where an earlier try was stopped; say whether there was one."""
        found = [Journal(path).past(result) for path, result in self._results]
        pasts = [past for past in found if past is not None]
        if len(pasts) < len(found):
            return False
        self.done = min(past.done for past in pasts)
        if pasts[0].state is not None:
            with suppress(Exception):  # whatever torch raises for a damaged file
                state = torch.load(io.BytesIO(pasts[0].state), "cpu", weights_only=True)
                self.state = state if state["image"] == self.done else None
        return True

    def open(self) -> None:
        """Create the files, or open those of an earlier try; call this before writing.

        Raises:
            Error: a file cannot be written.
        """
        if not self._sinks:
            self._sinks = [
                open_sink(format, path, result, is_new=self._is_new)
                for format, (path, result) in zip(self._job.formats, self._results, strict=True)
            ]

    def write(
        self, number: int, start: int, output: Tensor, axis: int = 0, *, completes: bool = False
    ) -> None:
        """Begin to write slices of the network's output, when those before are written.

        Args:
            number: of the image.
            start: the first slice.
            output: [c_out, *space], complete along all axes but one; with a spread behind it, twice
                as many channels.
            axis: this axis, counted among the spatial ones.
            completes: the image has no other slices.

        Raises:
            Error: what was being written cannot be.
        """
        self.settle()
        future = self._writer.submit(self._write, number, start, output, axis)
        self._writing = _Writing(future, number + 1 if completes else number)

    def _write(self, number: int, start: int, output: Tensor, axis: int) -> None:
        labels = self._predictor.label_map is not None
        bad, total = num_unusable(output[: self._predictor.c_out], labels=labels)
        self._unusable, self._total = self._unusable + bad, self._total + total
        if self._within is not None:
            found = cropped(output, start, axis, self._within)
            if found is None:
                return
            output, start = found
        c_out, channels = self._predictor.c_out, self._predictor.model.channels
        output, spread = output[:c_out], output[c_out : c_out + channels]
        pixels = self._encode(self._predictor.to_image(output))
        self._sinks[0].write(number, start, pixels, axis)
        for kind, sink in zip(self._job.extras, self._sinks[1:], strict=True):
            if kind == "probabilities":
                extra = output.softmax(0)
            else:
                extra = spread if kind == "spread" else output[channels:]
            sink.write(number, start, extra.numpy(), axis)

    def settle(self) -> None:
        """Wait until everything is written.

        Raises:
            Error: it cannot be.
        """
        if self._writing is not None:
            future, done = self._writing
            wait([future])
            self._writing = None
            future.result()
            self.done = done

    def complete_image(self) -> None:
        """Note that all slices of the next image are passed to `write`."""
        self.settle()
        self.done, self.state = self.done + 1, None

    def save(self) -> None:
        """Have a later try resume from here.

        Raises:
            Error: a file cannot be written.
        """
        self.settle()
        content = io.BytesIO()
        if self.state is not None:
            torch.save({"image": self.done, **self.state}, content)
        # The state is saved last: whatever it refers to is on disk by then.
        for sink in reversed(self._sinks):
            sink.save(self.done, content.getvalue() if sink is self._sinks[0] else b"")
        self._saved = time.monotonic()

    def save_now_and_then(self) -> None:
        """Save if the last time was long ago."""
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self.save()

    def finish(self) -> None:
        """Give the files their names.

        Raises:
            Error: a file cannot be written.
        """
        self.settle()
        self.open()  # the earlier try may have been killed when all images were complete
        for sink in self._sinks:
            sink.finish()
        self._encode.report()
        self._release()

    def _release(self) -> None:
        if self._unusable:
            log.warning(unusable_text(str(self._job.location), self._unusable, self._total))
        for lock in self._locks:
            lock.release()

    def leave(self) -> None:
        """Stop before the end; what is worth it is kept for a later try."""
        with suppress(Error):
            self.settle()
        if self.state is not None or (self.done > 0 and self.main[1].num_images > 1):
            with suppress(Error):
                self.save()
        # A disk that is full may have no room for a record; what has none is worth nothing.
        has_record = all(Journal(path).past(result) for path, result in self._results)
        for sink in self._sinks:
            if has_record:
                sink.close()
            else:
                sink.discard()
        self._release()

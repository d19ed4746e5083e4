"""Batches of samples: the same for any number of workers, and after a run is resumed."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from msdtool.data.interfaces import Pairs, Sample
from msdtool.data.labels import IGNORED
from msdtool.data.pairing import finite_sample
from msdtool.data.samples import Draw, TrainingSamples
from msdtool.errors import InputError

CPU = torch.device("cpu")
BATCHES_AHEAD = 2
"""Batches that are read while one is in use, in addition to those in worker processes."""
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")


class ShuffledBatches:
    """The batches of all epochs; the order of an epoch is a function of (seed, epoch).

    Args:
        num_samples: number of samples in an epoch.
        batch_size: number of samples in a batch; the last one of an epoch may be smaller.
        epochs: number of epochs.
        seed: for the order.
        first_batch: the batch to start with, counted from 0 over all epochs.
    """

    def __init__(
        self, num_samples: int, batch_size: int, epochs: int, seed: int, first_batch: int = 0
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.first_batch = first_batch

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in one epoch."""
        return -(-self.num_samples // self.batch_size)

    def __len__(self) -> int:
        return self.epochs * self.batches_per_epoch - self.first_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        first_epoch, skip = divmod(self.first_batch, self.batches_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            start = skip * self.batch_size if epoch == first_epoch else 0
            for position in range(start, self.num_samples, self.batch_size):
                yield [(epoch, int(i)) for i in order[position : position + self.batch_size]]


class DummyBatch(list[Any]):
    """The shard of a process for which a batch has no image left: an image that does not count.

    It keeps the process in step with the others, which wait for its gradients.
    """


class Shard:
    """The part of each batch that one of several processes reads.

    Args:
        batches: batches of draws, the same on every process.
        rank: the number of this process, counted from 0.
        size: the number of processes.
    """

    def __init__(self, batches: Iterable[Sequence[Any]], rank: int = 0, size: int = 1) -> None:
        self.batches = batches
        self.rank = rank
        self.size = size

    def __iter__(self) -> Iterator[Sequence[Any]]:
        for batch in self.batches:
            yield batch[self.rank :: self.size] or DummyBatch(batch[:1])


class BatchReader(Dataset[Sample | InputError]):
    """Reads a whole batch at a time.

    An InputError is returned, not raised: raised in a worker process, its message would contain the
    worker's traceback.
    """

    def __init__(self, pairs: Pairs, read: Callable[[Any], Sample]) -> None:
        self.pairs = pairs
        self.read = read

    def __getitem__(self, draws: Sequence[Any]) -> Sample | InputError:
        try:
            batch = self._stack([self.read(draw) for draw in draws])
            return _without_effect(batch) if isinstance(draws, DummyBatch) else batch
        except InputError as error:
            return error

    def _stack(self, samples: list[Sample]) -> Sample:
        first = samples[0]
        for sample in samples[1:]:
            for a, b in ((first.input, sample.input), (first.target, sample.target)):
                if a.shape != b.shape:
                    names = [self.pairs.name(int(item.indices)) for item in (first, sample)]
                    raise InputError(
                        f"{names[0]} and {names[1]} cannot be in one batch: their shapes are "
                        f"{tuple(a.shape)} and {tuple(b.shape)}; "
                        "set training.batch_size: 1, or data.crop"
                    )
        masks = [sample.mask for sample in samples if sample.mask is not None]
        return Sample(
            torch.stack([sample.input for sample in samples]),
            torch.stack([sample.target for sample in samples]),
            torch.stack(masks) if masks else None,
            torch.stack([sample.indices for sample in samples]),
            _stacked([sample.levels for sample in samples]),
            _stacked([sample.target_levels for sample in samples]),
        )


def _stacked(levels: list[torch.Tensor | None]) -> torch.Tensor | None:
    """The levels of a batch; all its images have some, or none has."""
    found = [one for one in levels if one is not None]
    return torch.stack(found) if found else None


def _without_effect(batch: Sample) -> Sample:
    """A batch without images, in which no pixel counts."""
    nowhere = torch.zeros_like(batch.target[:, :1], dtype=torch.bool)
    no_indices = batch.indices[:0]
    if batch.target.dtype == torch.int64:
        target = torch.full_like(batch.target, IGNORED)
        return batch._replace(target=target, mask=None, indices=no_indices)
    return batch._replace(mask=nowhere, indices=no_indices)


def training_batches(
    samples: TrainingSamples,
    batches: Iterable[Sequence[Draw]],
    workers: int,
    device: torch.device = CPU,
) -> Generator[Sample]:
    """Load the batches of a whole training; workers keep running through all epochs.

    Close the generator to end the thread and the processes that read ahead.

    Args:
        samples: of the training set.
        batches: which samples each has.
        workers: processes that read.
        device: where the batches go. For a GPU they are in pinned memory, from which it copies
            while this process does something else.

    Raises:
        InputError: a file cannot be used, or the images of a batch differ in shape.
    """
    return _load(BatchReader(samples.pairs, samples.sample), batches, workers, device)


def validation_batches(
    pairs: Pairs, workers: int, rank: int = 0, size: int = 1, device: torch.device = CPU
) -> Generator[Sample]:
    """Load whole pairs one at a time, so that their sizes may differ.

    Each of ``size`` processes gets its shard, all of them the same number of batches; dummy batches
    fill the gaps at the end. ``device`` as for `training_batches`.

    Raises:
        InputError: a file cannot be used, or contains non-finite values.
    """
    rounds = [range(len(pairs))[start : start + size] for start in range(0, len(pairs), size)]
    reader = BatchReader(pairs, partial(finite_sample, pairs))
    return _load(reader, Shard(rounds, rank, size), workers, device)


def _load(
    reader: BatchReader, batches: Iterable[Sequence[Any]], workers: int, device: torch.device
) -> Generator[Sample]:
    # Nothing else holds the results, so that their worker processes end when this is closed.
    with closing(_ahead(_results(reader, batches, workers), device)) as ahead:
        for batch in ahead:
            if isinstance(batch, InputError):
                raise batch
            yield batch


def _results(
    reader: BatchReader, batches: Iterable[Sequence[Any]], workers: int
) -> Iterator[Sample | InputError]:
    if not workers:
        return map(reader.__getitem__, batches)
    loader: DataLoader[Any] = DataLoader(
        reader,
        batch_size=None,  # the reader collates the batches
        sampler=batches,
        num_workers=workers,
        worker_init_fn=_prepare_worker,
        multiprocessing_context=_start_method(),
    )
    return iter(loader)


def _ahead(
    results: Iterator[Sample | InputError], device: torch.device
) -> Generator[Sample | InputError]:
    """Fetch the next results in a thread while one is in use.

    Even if worker processes read, receiving a batch from them takes milliseconds; so does putting
    it into pinned memory.
    """
    start: tuple[Any, ...] = ()
    if device.type == "cuda":
        results = map(_pinned, results)
        index = torch.cuda.current_device() if device.index is None else device.index
        start = (torch.cuda.set_device, (index,))  # each thread has one of its own
    with ThreadPoolExecutor(1, "read-ahead", *start) as thread:
        taking = deque(thread.submit(next, results, None) for _ in range(BATCHES_AHEAD))
        try:
            while (result := taking.popleft().result()) is not None:
                taking.append(thread.submit(next, results, None))
                yield result
        finally:
            for future in taking:
                future.cancel()


def _pinned(batch: Sample | InputError) -> Sample | InputError:
    """A batch in memory from which a GPU can copy on its own."""
    if isinstance(batch, InputError):
        return batch
    tensors = {key: tensor for key, tensor in batch._asdict().items() if tensor is not None}
    return batch._replace(**{key: tensor.pin_memory() for key, tensor in tensors.items()})


def _start_method() -> BaseContext | None:
    """How worker processes are started; None: the default of this system.

    A fork copies the locks that other threads of this process hold at that moment, and the child
    waits for them forever. Threads of torch.distributed may hold the interpreter's locks at any
    time, so a process without threads must do the forking.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return None
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with _ignoring_signals():
        forkserver.ensure_running()
    return context


@contextmanager
def _ignoring_signals() -> Iterator[None]:
    """Programs started in this context ignore the signals that ask this one to stop."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _stop_signals()}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop_signals() -> list[signal.Signals]:
    """Those of `STOP_SIGNALS` that the system has."""
    return [number for number in signal.Signals if number.name in STOP_SIGNALS]


def _prepare_worker(_worker: int) -> None:
    """Leave stopping to the main process: it saves a checkpoint, then ends the workers."""
    for number in _stop_signals():
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        # A child of the fork server: torch checks that the server lives, which it does while we do.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    sys.excepthook = _print_unless_disconnected


def _end_with(parent: Any) -> None:
    """End this process when its parent has ended, for whatever reason."""
    parent.join()
    os._exit(1)


def _print_unless_disconnected(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print nothing if the main process was killed while it received a batch."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)

"""A training run: it trains, and turns events into files in its run directory."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

from torch import nn

from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.data.build import build_batches, build_samples
from msdtool.data.loaders import Shard, training_batches, validation_batches
from msdtool.errors import Error, Stopped, TrainingError
from msdtool.measure.metrics import build_metrics
from msdtool.measure.without_truth import NoisyScores
from msdtool.nn.device import use_deterministic
from msdtool.runs.rundir import RunDirectory
from msdtool.train.baseline import Baseline
from msdtool.train.build import build_loss, total_updates
from msdtool.train.events import EpochDone, Event, ImageValidated, Validation
from msdtool.train.learner import Learner
from msdtool.train.loop import Plan, train
from msdtool.train.processes import Processes
from msdtool.train.record import Record
from msdtool.train.validation import validation


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """An experiment that is ready to train, see `msdtool.train.prepare.prepare_run`.

    Attributes:
        config: the experiment.
        record: writes the run's files; it holds the learner and the run directory.
        train_pairs: the training set.
        validation_pairs: the validation set, if there is one.
        baseline: what doing nothing scores on it.
        input_shape: of the first training image, [C, *space].
        should_stop: called after each update and each image validated.
    """

    config: ExperimentConfig
    record: Record
    train_pairs: Pairs
    validation_pairs: Pairs | None
    baseline: Baseline
    input_shape: tuple[int, ...]
    should_stop: Callable[[], bool]

    @property
    def directory(self) -> RunDirectory:
        """The run directory."""
        return self.record.directory

    @property
    def learner(self) -> Learner:
        """The network, and everything else that changes while it is trained."""
        return self.record.learner

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.learner.network

    @property
    def processes(self) -> Processes:
        """The processes that train the network together."""
        return self.learner.processes

    @property
    def total_steps(self) -> int:
        """Number of updates in all epochs."""
        return total_updates(self.config, len(self.train_pairs))

    def events(self) -> Iterator[Event]:
        """Train; log, save and draw at each event, then pass it on.

        Raises:
            Stopped: asked to stop; a checkpoint is saved.
            TrainingError: the loss is not finite; the last good checkpoint stays.
            InputError: an image cannot be used.
        """
        try:
            if not self.learner.progress.finished:
                yield from self._events()
        finally:
            self.directory.release()

    def _events(self) -> Iterator[Event]:
        use_deterministic(self.config.training.deterministic)
        self._save()
        saved = time.monotonic()
        with closing(self._guarded(self._train())) as events:
            for event in events:
                if isinstance(event, EpochDone):
                    self._end_epoch(event)
                    saved = time.monotonic()
                elif (request := self._request(saved)) is not _Request.CONTINUE:
                    # All processes wait for it: when one exits, launchers end the others.
                    self._save()
                    saved = time.monotonic()
                    if request is _Request.STOP:
                        raise self._stopped()
                yield event
                between = isinstance(event, EpochDone) and not self.learner.progress.finished
                if between and self._request(saved) is _Request.STOP:
                    raise self._stopped()
        self.processes.on_main(partial(self.record.finish, self.validation_pairs))

    def _save(self) -> None:
        """Save the state, unless it is found to be spoiled."""
        self.learner.settle()
        self.processes.on_main(partial(self.record.save, best=False))

    def _request(self, saved: float) -> "_Request":
        """Return the most urgent request of all processes.

        Args:
            saved: when the last checkpoint was written, by `time.monotonic`.
        """
        request = _Request.CONTINUE
        if time.monotonic() - saved > self.config.training.checkpoint_every:
            request = _Request.SAVE
        if self.should_stop():
            request = _Request.STOP
        return _Request(int(self.processes.largest(request)))

    def _end_epoch(self, event: EpochDone) -> None:
        row = self.record.note_epoch(event)
        write = partial(self.record.write_epoch, row, event, self.validation_pairs)
        self.processes.on_main(write)

    def _guarded(self, events: Iterator[Event]) -> Generator[Event]:
        """Explain the death of another process, which torch may notice at any moment."""
        try:
            yield from events
        except (RuntimeError, EOFError, ConnectionError) as error:
            if isinstance(error, RuntimeError):
                lost = self.processes.lost(error)
                if lost is not None:
                    raise lost from None
                if "DataLoader worker" not in str(error):
                    raise
            # Otherwise the pipe broke before torch noticed that its worker is gone.
            raise TrainingError(
                "a process that reads images was killed, most often because memory ran out; "
                "resume the run with a lower data.workers or without data.cache",
                hint_key="resume",
            ) from None

    def _stopped(self) -> Error:
        progress = self.learner.progress
        message = f"stopped at step {progress.step}, epoch {progress.epoch + 1}"
        if self.processes.is_main:
            self.directory.log(message)
        return self.processes.agreed(
            Stopped(f"{message}; checkpoint saved, resume to continue", hint_key="resume")
        )

    def _train(self) -> Iterator[Event]:
        training, progress = self.config.training, self.learner.progress
        order = build_batches(self.config, len(self.train_pairs), progress.batches)
        input_std = self.record.normalisation.input_std
        samples = build_samples(self.config, self.train_pairs, input_std)
        plan = Plan(
            epochs=training.epochs,
            batches_per_epoch=order.batches_per_epoch,
            accumulate=training.accumulate,
            gradient_clip=training.gradient_clip,
            validate_every=training.validate_every,
            patience=training.patience,
            select=training.select,
            max_seconds=training.max_time,
            seed=training.seed,
        )
        workers, device = self.config.data.workers, self.learner.device
        shard = Shard(order, self.processes.rank, self.processes.size)
        validate = None if self.validation_pairs is None else self._validate
        with closing(training_batches(samples, shard, workers, device)) as batches:
            yield from train(self.learner, plan, batches, validate, self.train_pairs.name)

    def _validate(self) -> Generator[ImageValidated, None, Validation]:
        pairs, processes = self.validation_pairs, self.processes
        assert pairs is not None
        normalisation = self.record.normalisation
        workers = self.config.data.workers
        # Compared with noise, a network that removes it scores low, and its input higher.
        is_measured = not self.config.data.validates_on_noise
        labels, data_range = self.config.label_values, normalisation.data_range
        groups = self.config.output_groups
        place = processes.rank, processes.size
        with closing(validation_batches(pairs, workers, *place, self.learner.device)) as batches:
            return (
                yield from validation(
                    self.learner.result,
                    self.learner.device,
                    build_loss(self.config, normalisation),
                    build_metrics(labels, data_range, bounds=groups > 1) if is_measured else None,
                    batches,
                    pairs.name,
                    self.baseline if is_measured else None,
                    self._scores(pairs),
                    processes,
                )
            )

    def _scores(self, pairs: Pairs) -> NoisyScores | None:
        """What is measured where the targets of validation are noisy."""
        names = self.config.data.noise_scores
        if not names:
            return None
        # Each image once: its results from other halves would be much the same.
        return NoisyScores(frozenset(pairs.to_measure()) if "frc" in names else ())


class _Request(IntEnum):
    """What a process asks for at an event, the most urgent last."""

    CONTINUE = 0
    SAVE = 1
    STOP = 2

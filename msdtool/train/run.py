"""A training run: a config becomes a learner, and its events become files in a run directory."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from enum import IntEnum
from functools import partial

import torch

from msdtool.config import ExperimentConfig, dump_config
from msdtool.data.build import build_batches, build_datasets, build_samples
from msdtool.data.loaders import Shares, training_batches, validation_batches
from msdtool.errors import ConfigError, Error, Stopped, TrainingError
from msdtool.nn.build import Architecture, architecture, build_network, check_scale
from msdtool.nn.device import choose_device, use_deterministic
from msdtool.ops.block import implementation_for
from msdtool.runs.checkpoint import Checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.build import (
    build_learner,
    build_loss,
    build_metrics,
    check_graphs,
    measure_normalisation,
    set_normalisation,
    total_updates,
)
from msdtool.train.environment import environment
from msdtool.train.events import EpochDone, Event, ImageValidated, Progress, Validation
from msdtool.train.loop import Plan, train, validation
from msdtool.train.processes import ALONE, Processes
from msdtool.train.record import Record
from msdtool.train.resume import earlier_checkpoint, reopen
from msdtool.train.sizes import check_images
from msdtool.train.tensorboard import TensorBoardLog


class TrainingRun:
    """One experiment in its run directory, new or continued.

    Args:
        config: the experiment.
        resume: continue the run in the directory, or start it when there is none.
        overwrite: replace a run in the directory.
        should_stop: asked after each update and each image read or validated.
        log: told what takes a while.
        tick: told how many of how many training images are measured.
        processes: those that train the network together. Only the main one touches the directory.

    Raises:
        RunDirectoryError: the directory holds something that must not be lost.
        ConfigError: the config does not fit the machine, or not the run that is continued.
        InputError: the data cannot be used.
        Stopped: the run was asked to stop before it began.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        *,
        resume: bool = False,
        overwrite: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        log: Callable[[str], None] = lambda message: None,
        tick: Callable[[float, int], None] = lambda done, total: None,
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.should_stop = should_stop
        self.processes = processes
        self.directory = RunDirectory(config.run.directory)
        tensorboard = TensorBoardLog(self.directory.tensorboard) if config.run.tensorboard else None
        self.first_shape, self.architecture = processes.together(self._open)
        if implementation_for(self.device, torch.float32) == "blocked":
            log(
                "the network is computed by torch's matrix products, which is slower than the "
                "engine made for this device; msdtool doctor says why"
            )
        checkpoint = processes.on_main(lambda: self._claim(resume, overwrite))
        if checkpoint is None:
            torch.manual_seed(config.training.seed)
            self.network = build_network(self.architecture)
            log(f"measuring {len(self.train_pairs)} training pairs")
            self.normalisation = measure_normalisation(
                config, self.train_pairs, partial(self._measuring, tick), processes
            )
            set_normalisation(self.network, self.normalisation)
        else:
            self.architecture = checkpoint["model"]["architecture"]
            self.network = build_network(self.architecture)
            self.normalisation = checkpoint["model"]["normalisation"]
        processes.on_main(lambda: self._write_description(is_new=checkpoint is None))
        self.learner = build_learner(
            config, self.network, self.normalisation, len(self.train_pairs), self.device, processes
        )
        self.record = Record(
            config,
            self.directory,
            self.learner,
            architecture=self.architecture,
            normalisation=self.normalisation,
            num_pairs=self._num_pairs(),
            tensorboard=tensorboard,
        )
        if checkpoint is not None:
            self._go_on(checkpoint)

    # Making ready ------------------------------------------------------------------------------

    def _open(self) -> tuple[tuple[int, ...], Architecture]:
        """Find the device and the data; return the first input's shape and the network's plan."""
        batch_size, size = self.config.training.batch_size, self.processes.size
        if batch_size < size:
            raise ConfigError(
                f"training.batch_size: {batch_size} cannot be shared by {size} processes; it "
                f"counts the images of all: set {size} or more, or start fewer processes"
            )
        self.device = choose_device(self.config.training.device)
        self.processes.use_device(self.device)
        if self.config.training.cuda_graphs:
            check_graphs(self.device, size)
        self.train_pairs, self.validation_pairs = build_datasets(self.config)
        # A pixel tells the channels; a volume may be larger than memory.
        space = self.train_pairs.space(0)
        first = self.train_pairs.sample(0, tuple(slice(0, 1) for _ in space))
        planned = architecture(
            self.config,
            first.input.shape[0],
            self.config.num_labels or first.target.shape[0],
            self.config.crop_size or space,
        )
        check_scale(self.config, planned, self.train_pairs.scale)
        check_images(self.config, planned, self.train_pairs, self.validation_pairs)
        return (first.input.shape[0], *space), planned

    def _claim(self, resume: bool, overwrite: bool) -> Checkpoint | None:
        """Take the directory; return the checkpoint to go on from, if there is one."""
        self.directory.claim(resume=resume, overwrite=overwrite)
        if overwrite:
            return None
        return earlier_checkpoint(self.directory, self.config, self._num_pairs())

    def _num_pairs(self) -> dict[str, int]:
        return {
            "training": len(self.train_pairs),
            "validation": 0 if self.validation_pairs is None else len(self.validation_pairs),
        }

    def _write_description(self, *, is_new: bool) -> None:
        if is_new:
            self.directory.clear()
        text = json.dumps(environment(self.device, self.processes.size), indent=2)
        self.directory.write_text(self.directory.environment, text + "\n")
        self.directory.write_text(self.directory.config, dump_config(self.config))

    def _measuring(self, tick: Callable[[float, int], None], done: float, total: int) -> None:
        if self.should_stop():
            raise Stopped("stopped before the first step; nothing is lost, start again")
        tick(done, total)

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """Take up the state of an earlier run."""
        learner = self.learner
        self.network.load_state_dict(checkpoint["model"]["state"])
        learner.optimizer.load_state_dict(checkpoint["training"]["optimizer"])
        learner.schedule.load_state_dict(checkpoint["training"]["schedule"])
        learner.progress = Progress(**checkpoint["progress"])
        self.record.metrics = checkpoint["metrics"]
        reopen(learner.progress, self.config.training)
        if self.processes.is_main:
            self.directory.forget_rows_after(checkpoint["training"]["metrics_bytes"])

    @property
    def total_steps(self) -> int:
        """Updates that all epochs together make."""
        return total_updates(self.config, len(self.train_pairs))

    # Training ----------------------------------------------------------------------------------

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
        save = partial(self.processes.on_main, partial(self.record.save, best=False))
        save()
        saved = time.monotonic()
        for event in self._guarded(self._train()):
            if isinstance(event, EpochDone):
                self._end_epoch(event)
                saved = time.monotonic()
            elif (wish := self._wish(saved)) is not _Wish.GO_ON:
                # All wait for it: when one process exits, launchers end the others.
                save()
                saved = time.monotonic()
                if wish is _Wish.STOP:
                    raise self._stopped()
            yield event
            is_over = bool(self.learner.progress.finished)
            if isinstance(event, EpochDone) and not is_over and self._wish(saved) is _Wish.STOP:
                raise self._stopped()
        self.processes.on_main(self.record.finish)

    def _wish(self, saved: float) -> "_Wish":
        """What the process that wishes most asks of all; ``saved`` is when a checkpoint was."""
        wish = _Wish.GO_ON
        if time.monotonic() - saved > self.config.training.checkpoint_every:
            wish = _Wish.SAVE
        if self.should_stop():
            wish = _Wish.STOP
        return _Wish(int(self.processes.largest(wish)))

    def _end_epoch(self, event: EpochDone) -> None:
        row = self.record.note_epoch(event)
        write = partial(self.record.write_epoch, row, event, self.validation_pairs)
        self.processes.on_main(write)

    def _guarded(self, events: Iterator[Event]) -> Iterator[Event]:
        """Say what it means when another process dies, which torch may notice at any moment."""
        try:
            yield from events
        except RuntimeError as error:
            lost = self.processes.lost(error)
            if lost is not None:
                raise lost from None
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingError(
                "a process that reads images was killed, most often because memory ran out; go on "
                "with --resume, with a lower data.workers or without data.cache"
            ) from None

    def _stopped(self) -> Error:
        progress = self.learner.progress
        message = f"stopped at step {progress.step}, epoch {progress.epoch + 1}"
        if self.processes.is_main:
            self.directory.log(message)
        return self.processes.agreed(
            Stopped(f"{message}; checkpoint saved, continue with --resume")
        )

    def _train(self) -> Iterator[Event]:
        training, progress = self.config.training, self.learner.progress
        order = build_batches(self.config, len(self.train_pairs), progress.batches)
        samples = build_samples(self.config, self.train_pairs, self.normalisation["input_std"])
        plan = Plan(
            epochs=training.epochs,
            batches_per_epoch=order.batches_per_epoch,
            accumulate=training.accumulate,
            gradient_clip=training.gradient_clip,
            validate_every=training.validate_every,
            patience=training.patience,
            max_seconds=training.max_time,
            seed=training.seed,
        )
        shares = Shares(order, self.processes.rank, self.processes.size)
        batches = training_batches(samples, shares, self.config.data.workers)
        validate = None if self.validation_pairs is None else self._validate
        return train(self.learner, plan, batches, validate, self.train_pairs.name)

    def _validate(self) -> Generator[ImageValidated, None, Validation]:
        pairs, processes = self.validation_pairs, self.processes
        assert pairs is not None
        return validation(
            self.learner,
            build_metrics(self.config.label_values, self.normalisation["data_range"]),
            validation_batches(pairs, self.config.data.workers, processes.rank, processes.size),
            pairs.name,
            build_loss(self.config, self.normalisation),
        )


class _Wish(IntEnum):
    """What a process asks for at an event, the most urgent last."""

    GO_ON = 0
    SAVE = 1
    STOP = 2

"""A training run: a config becomes a learner, and its events become files in a run directory."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from typing import Any

import torch

from msdtool.config import ExperimentConfig, dump_config
from msdtool.data import Pairs
from msdtool.data.build import build_batches, build_datasets, build_samples
from msdtool.data.loaders import Shares, training_batches, validation_batches
from msdtool.errors import (
    ConfigError,
    Error,
    Stopped,
    TrainingError,
)
from msdtool.nn.build import Architecture, architecture, build_network, check_scale
from msdtool.nn.device import choose_device
from msdtool.nn.graphs import GraphedNetwork
from msdtool.nn.scaling import ScaledNetwork
from msdtool.runs.checkpoint import Checkpoint, Model, save_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.build import (
    build_loss,
    build_metrics,
    measure_normalisation,
    set_normalisation,
)
from msdtool.train.environment import environment, versions
from msdtool.train.loop import (
    EpochDone,
    Event,
    ImageValidated,
    Learner,
    Plan,
    Progress,
    Validation,
    train,
    validation,
)
from msdtool.train.optim import Schedule, build_optimizer
from msdtool.train.pictures import RunPictures
from msdtool.train.processes import ALONE, Processes
from msdtool.train.resume import earlier_checkpoint, reopen
from msdtool.train.tensorboard import TensorBoardLog


class TrainingRun:
    """One experiment in its run directory, new or continued.

    Args:
        config: the experiment.
        resume: continue the run in the directory, or start it when there is none.
        overwrite: replace a run in the directory.
        should_stop: asked after each update and each image read or validated.
        log: told what takes a while.
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
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.should_stop = should_stop
        self.processes = processes
        self.directory = RunDirectory(config.run.directory)
        self.tensorboard = (
            TensorBoardLog(self.directory.tensorboard) if config.run.tensorboard else None
        )
        self.first_shape, self.architecture = processes.together(self._open)
        checkpoint = processes.on_main(lambda: self._claim(resume, overwrite))
        if checkpoint is None:
            torch.manual_seed(config.training.seed)
            self.network = build_network(self.architecture)
            log(f"measuring {len(self.train_pairs)} training pairs")
            self.normalisation = measure_normalisation(
                config, self.train_pairs, self._stop_early, processes
            )
            set_normalisation(self.network, self.normalisation)
        else:
            self.architecture = checkpoint["model"]["architecture"]
            self.network = build_network(self.architecture)
            self.normalisation = checkpoint["model"]["normalisation"]
        processes.on_main(lambda: self._write_description(is_new=checkpoint is None))
        self.metrics: dict[str, Any] = {}
        self.learner = self._build_learner(checkpoint)
        self.pictures = RunPictures(
            self.directory, self.network, config.num_labels, self.normalisation["data_range"]
        )

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

    def _stop_early(self, _index: int) -> None:
        if self.should_stop():
            raise Stopped("stopped before the first step; nothing is lost, start again")

    def _build_learner(self, checkpoint: Checkpoint | None) -> Learner:
        training = self.config.training
        self.network.to(self.device)
        optimizer = build_optimizer(
            training.optimizer,
            self.network.parameters(),
            training.learning_rate,
            training.weight_decay,
        )
        self.batches = build_batches(self.config, len(self.train_pairs), 0)
        updates_per_epoch = -(-self.batches.batches_per_epoch // training.accumulate)
        schedule = Schedule(
            training.schedule,
            optimizer,
            training.epochs * updates_per_epoch,
            training.plateau_patience,
        )
        learner = Learner(
            self.network,
            build_loss(self.config, self.normalisation, self.processes.total),
            optimizer,
            schedule,
            self.device,
            processes=self.processes,
        )
        if training.cuda_graphs:
            learner.parallel = GraphedNetwork(self.network)
        if checkpoint is not None:
            self.network.load_state_dict(checkpoint["model"]["state"])
            optimizer.load_state_dict(checkpoint["training"]["optimizer"])
            schedule.load_state_dict(checkpoint["training"]["schedule"])
            learner.progress = Progress(**checkpoint["progress"])
            self.metrics = checkpoint["metrics"]
            reopen(learner.progress, self.config.training)
            if self.processes.is_main:
                self.directory.forget_rows_after(checkpoint["training"]["metrics_bytes"])
        return learner

    @property
    def total_steps(self) -> int:
        """Updates that all epochs together make."""
        per_epoch = -(-self.batches.batches_per_epoch // self.config.training.accumulate)
        return per_epoch * self.config.training.epochs

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
        torch.use_deterministic_algorithms(self.config.training.deterministic)
        self.save(best=False)
        saved = time.monotonic()
        for event in self._guarded(self._train()):
            if isinstance(event, EpochDone):
                self._end_epoch(event)
                saved = time.monotonic()
            elif self._is_asked_to_stop():
                # All wait for it: when one process exits, launchers end the others.
                self.processes.on_main(lambda: self.save(best=False))
                raise self._stopped()
            elif time.monotonic() - saved > self.config.training.checkpoint_every:
                self.save(best=False)
                saved = time.monotonic()
            yield event
            is_over = bool(self.learner.progress.finished)
            if isinstance(event, EpochDone) and not is_over and self._is_asked_to_stop():
                raise self._stopped()
        self.processes.on_main(self._finish)

    def _is_asked_to_stop(self) -> bool:
        return self.processes.any(self.should_stop())

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
        pairs, processes = self._validation_pairs(), self.processes
        return validation(
            self.learner,
            build_metrics(self.config.label_values, self.normalisation["data_range"]),
            validation_batches(pairs, self.config.data.workers, processes.rank, processes.size),
            pairs.name,
            build_loss(self.config, self.normalisation),
        )

    def _validation_pairs(self) -> Pairs:
        assert self.validation_pairs is not None
        return self.validation_pairs

    def _end_epoch(self, event: EpochDone) -> None:
        """Write the epoch's row, then the checkpoints: a row without one is dropped on resume."""
        progress = self.learner.progress
        metrics = {} if event.validation is None else event.validation.metrics
        row = {
            "event": "epoch",
            "epoch": event.epoch,
            "step": progress.step,
            "train_loss": event.train_loss,
            "validation_loss": None if event.validation is None else event.validation.loss,
            **metrics,
            "learning_rate": self.learner.optimizer.param_groups[0]["lr"],
            "seconds": round(progress.seconds, 3),
            "data_seconds": round(progress.data_seconds, 3),
        }
        self.metrics = row if metrics else self.metrics
        if not self.processes.is_main:
            return
        self.directory.append_row(row)
        self.directory.log(_line(row))
        self.save(best=event.improved)
        if self.tensorboard is not None:
            self.tensorboard.add(row)
        if event.validation is not None and event.improved and self.config.run.previews:
            self.pictures.update(self._validation_pairs(), event.validation)

    def _finish(self) -> None:
        self.directory.log(f"finished: {self.learner.progress.finished}")
        self.pictures.finish()

    def save(self, *, best: bool) -> None:
        """Write the best checkpoint if this is it, then the last one; only the main process does.

        Raises:
            Error: a file cannot be written.
        """
        if not self.processes.is_main:
            return
        checkpoint = Checkpoint(
            model=self._model(),
            config=self.config.model_dump(mode="json"),
            progress=asdict(self.learner.progress),
            metrics=self.metrics,
            versions=versions(),
            training={},
        )
        if best:
            save_checkpoint(self.directory.best, checkpoint)
        checkpoint["training"] = {
            "optimizer": self.learner.optimizer.state_dict(),
            "schedule": self.learner.schedule.state_dict(),
            "metrics_bytes": self.directory.metrics_bytes,
            "num_pairs": self._num_pairs(),
        }
        save_checkpoint(self.directory.last, checkpoint)

    def _model(self) -> Model:
        return Model(
            task=self.config.task,
            architecture=self.architecture,
            state=network_state(self.network),
            normalisation=self.normalisation,
            labels=self.config.label_values,
            ignore=self.config.data.ignore,
            collapse_channels=self.config.data.collapse_channels,
            slab=self.config.data.slab,
            splits=len(self.config.data.train.splits or []),
            strategy=self.config.data.train.strategy,
        )


def _line(row: dict[str, Any]) -> str:
    """An epoch's row as people read it."""
    numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
    return ", ".join(f"{key} {value:.5g}" for key, value in numbers.items())


def network_state(network: ScaledNetwork) -> dict[str, torch.Tensor]:
    """The network's tensors, on the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}


def check_graphs(device: torch.device, num_processes: int) -> None:
    """Raise ConfigError where CUDA graphs cannot train."""
    if device.type != "cuda" or num_processes > 1:
        raise ConfigError(
            "training.cuda_graphs: needs one process on a GPU; got "
            f"{num_processes} on {device.type}; set it to false"
        )

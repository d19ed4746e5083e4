"""What a training run writes to its directory: rows, logs, figures, checkpoints."""

import logging
from dataclasses import replace
from typing import Any

import torch

from msdtool.architecture import Architecture
from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.runs.checkpoint import save_checkpoint
from msdtool.runs.model import Checkpoint, Model, Normalisation
from msdtool.runs.rundir import RunDirectory
from msdtool.runs.versions import versions
from msdtool.system_memory import peak_memory
from msdtool.train.baseline import compared
from msdtool.train.build import total_updates
from msdtool.train.events import EpochDone
from msdtool.train.learner import Learner
from msdtool.train.pictures import RunPictures
from msdtool.train.tensorboard import TensorBoardLog
from msdtool.train.trouble import Trouble

log = logging.getLogger(__name__)


class Record:
    """Writes the files of a run; only on the main process, if there are several.

    Args:
        config: the experiment.
        directory: of the run.
        learner: what is saved.
        architecture: of its network.
        normalisation: of its network, as measured.
        num_pairs: number of pairs by kind.
        tensorboard: also receives each epoch, if there is one.

    Attributes:
        metrics: the row of the last validated epoch.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        directory: RunDirectory,
        learner: Learner,
        *,
        architecture: Architecture,
        normalisation: Normalisation,
        num_pairs: dict[str, int],
        tensorboard: TensorBoardLog | None = None,
    ) -> None:
        self.trouble = Trouble(total_updates(config, num_pairs["training"]))
        self.config, self.directory, self.learner = config, directory, learner
        self.architecture, self.normalisation = architecture, normalisation
        self.num_pairs = num_pairs
        self.tensorboard = tensorboard
        self.metrics: dict[str, Any] = {}
        data_range = None if config.data.validates_on_noise else normalisation.data_range
        self.pictures = RunPictures(directory, learner.result, config.label_values, data_range)

    def note_epoch(self, event: EpochDone) -> dict[str, Any]:
        """Return the row of an epoch and remember its metrics."""
        progress = self.learner.progress
        metrics = {} if event.validation is None else event.validation.metrics
        row = {
            "event": "epoch",
            "epoch": event.epoch,
            "step": progress.step,
            "train_loss": event.train_loss,
            "validation_loss": None if event.validation is None else event.validation.loss,
            **metrics,
            **({} if event.validation is None else compared(metrics, event.validation.baseline)),
            "learning_rate": self.learner.optimizer.param_groups[0]["lr"],
            "gradient_norm": event.gradient_norm,
            "seconds": round(progress.seconds, 3),
            "data_seconds": round(progress.data_seconds, 3),
            **_peak_memory(self.learner.device),
            "improved": event.improved,
        }
        self.metrics = self.metrics if event.validation is None else row
        return row

    def write_epoch(self, row: dict[str, Any], event: EpochDone, validated: Pairs | None) -> None:
        """Write an epoch's row, then the checkpoints; rows without one are dropped on resume.

        Raises:
            Error: a file cannot be written.
        """
        self.directory.append_row(row)
        self.directory.log(_line(row))
        for sign in self.trouble.signs(row):
            self.directory.log(f"warning: {sign}")
            log.warning(sign)
        is_shown = event.improved and validated is not None and self.config.run.previews
        if is_shown:
            assert event.validation is not None
            self.pictures.choose(event.validation)
        self.save(best=event.improved)
        if self.tensorboard is not None:
            self.tensorboard.add(row)
        if is_shown and not self.learner.progress.finished:  # at the end, `finish` draws
            assert validated is not None
            self.pictures.update(validated)

    def finish(self, validated: Pairs | None) -> None:
        """Draw the curves and images of a finished run, and log that it is, unless that is done.

        A process may have been killed between its last checkpoint and this.
        """
        message = f"finished: {self.learner.progress.finished}"
        if self.directory.last_logged != message:
            self.pictures.finish(validated if self.config.run.previews else None)
            self.directory.log(message)

    def save(self, *, best: bool) -> None:
        """Write the best checkpoint if ``best``, then the last one.

        Raises:
            Error: a file cannot be written.
        """
        checkpoint = Checkpoint(
            model=self._model(),
            config=self.config.model_dump(mode="json"),
            progress=self.learner.progress,
            metrics=self.metrics,
            versions=versions(),
            training={},
        )
        if best:
            save_checkpoint(self.directory.best, checkpoint)
        training = {
            "optimizer": self.learner.optimizer.state_dict(),
            "schedule": self.learner.schedule.state_dict(),
            "metrics_bytes": self.directory.metrics_bytes,
            "num_pairs": self.num_pairs,
            "pictured": self.pictures.chosen,
            **self._averaged(),
            **self._scale(),
        }
        save_checkpoint(self.directory.last, replace(checkpoint, training=training))

    def _averaged(self) -> dict[str, Any]:
        """The network itself, where the average of its weights is saved as the model."""
        average = self.learner.average
        if average is None:
            return {}
        weights = {name: value.cpu() for name, value in self.learner.network.state_dict().items()}
        return {"weights": weights, "averaged_updates": average.updates}

    def _scale(self) -> dict[str, Any]:
        """The scale of the loss, where the precision needs one."""
        scaler = self.learner.precision.state_dict()
        return {"scaler": scaler} if scaler else {}

    def _model(self) -> Model:
        data = self.config.data
        return Model.of(
            self.learner.result,
            self.config.task,
            self.architecture,
            self.normalisation,
            labels=self.config.label_values,
            ignore=data.ignore,
            collapse_channels=data.collapse_channels,
            slab=data.slab,
            splits=len(data.train.splits or []),
            strategy=data.train.strategy,
            scaling=data.normalisation.to_scaling(),
            interval=self.config.training.interval or 0.0,
        )


def _peak_memory(device: torch.device) -> dict[str, int | None]:
    """The most memory that this process has occupied so far, in bytes."""
    host = {"memory_bytes": peak_memory()}
    if device.type != "cuda":
        return host
    return {**host, "gpu_memory_bytes": torch.cuda.max_memory_allocated(device)}


def _line(row: dict[str, Any]) -> str:
    """An epoch's row, human-readable."""
    numbers = {
        key: value
        for key, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    text = ", ".join(f"{key} {value:.5g}" for key, value in numbers.items())
    return f"{text} (best)" if row["improved"] else text

"""What a training run leaves in its directory: rows, logs, pictures, checkpoints to go on from."""

from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from msdtool.config import ExperimentConfig
from msdtool.data import Pairs
from msdtool.nn.build import Architecture
from msdtool.runs.checkpoint import Checkpoint, Model, Normalisation, save_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.environment import versions
from msdtool.train.events import EpochDone
from msdtool.train.loop import Learner
from msdtool.train.pictures import RunPictures
from msdtool.train.tensorboard import TensorBoardLog


class Record:
    """Writes down a run; of several processes, only the main one does.

    Args:
        config: the experiment.
        directory: of the run.
        learner: what is written down.
        architecture: of its network.
        normalisation: of its network, and how it was measured.
        num_pairs: how many pairs there are, by kind.
        tensorboard: also told of each epoch, if there is one.

    Attributes:
        metrics: the row of the last epoch that was validated.
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
        self.config, self.directory, self.learner = config, directory, learner
        self.architecture, self.normalisation = architecture, normalisation
        self.num_pairs = num_pairs
        self.tensorboard = tensorboard
        self.metrics: dict[str, Any] = {}
        self.pictures = RunPictures(
            directory, learner.network, config.num_labels, normalisation["data_range"]
        )

    def note_epoch(self, event: EpochDone) -> dict[str, Any]:
        """Return the row of an epoch, and remember its metrics."""
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
        return row

    def write_epoch(self, row: dict[str, Any], event: EpochDone, validated: Pairs | None) -> None:
        """Write an epoch's row, then the checkpoints: a row without one is dropped on resume.

        Raises:
            Error: a file cannot be written.
        """
        self.directory.append_row(row)
        self.directory.log(_line(row))
        self.save(best=event.improved)
        if self.tensorboard is not None:
            self.tensorboard.add(row)
        if event.validation is not None and event.improved and self.config.run.previews:
            assert validated is not None
            self.pictures.update(validated, event.validation)

    def finish(self) -> None:
        """Say that training is over, and draw its curves."""
        self.directory.log(f"finished: {self.learner.progress.finished}")
        self.pictures.finish()

    def save(self, *, best: bool) -> None:
        """Write the best checkpoint if this is it, then the last one.

        Raises:
            Error: a file cannot be written.
        """
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
            "num_pairs": self.num_pairs,
        }
        save_checkpoint(self.directory.last, checkpoint)

    def _model(self) -> Model:
        data = self.config.data
        return Model(
            task=self.config.task,
            architecture=self.architecture,
            state=network_state(self.learner.network),
            normalisation=self.normalisation,
            labels=self.config.label_values,
            ignore=data.ignore,
            collapse_channels=data.collapse_channels,
            slab=data.slab,
            splits=len(data.train.splits or []),
            strategy=data.train.strategy,
        )


def _line(row: dict[str, Any]) -> str:
    """An epoch's row as people read it."""
    numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
    return ", ".join(f"{key} {value:.5g}" for key, value in numbers.items())


def network_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors, on the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}

"""A network that is normalised, saved and loaded, with the optimizer that trains it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn

from msdtool.architecture import Architecture
from msdtool.errors import InputError, ModelFileError
from msdtool.models.batches import Batches, measure
from msdtool.nn.build import build_network
from msdtool.nn.device import choose_device, devices_for
from msdtool.nn.msd import DILATIONS
from msdtool.nn.scaling import set_denormalising, set_normalising
from msdtool.runs.checkpoint import load_checkpoint, save_checkpoint
from msdtool.runs.model import Checkpoint, Model, Normalisation
from msdtool.runs.training_progress import TrainingProgress
from msdtool.runs.versions import versions
from msdtool.train.optim import build_optimizer
from msdtool.train.states import restore_optimizer

LEARNING_RATE = 1e-3


class ModelOptions(TypedDict, total=False):
    """Arguments of models of both tasks, by keyword."""

    dilations: Sequence[int]
    parallel: bool
    ndim: int
    padding: str
    device: str | torch.device | None


class StoredModel:
    """A network with its scaling layers and optimizer; arguments and attributes as in `MSDModel`.

    Raises:
        InputError: no network can have these layers.
    """

    task = "regression"

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        dilations: Sequence[int] = DILATIONS,
        *,
        parallel: bool = False,
        ndim: int = 2,
        padding: str = "symmetric",
        device: str | torch.device | None = None,
    ) -> None:
        self.architecture = Architecture(c_in, c_out, depth, width, tuple(dilations), ndim, padding)
        self.device = torch.device(device) if device is not None else choose_device()
        try:
            self.net = build_network(self.architecture).to(self.device)
        except ValueError as error:
            raise InputError(str(error)) from None
        devices = devices_for(self.device) if parallel else []
        self.parallel = nn.DataParallel(self.net, devices) if devices else self.net
        self.msd = self.net.msd
        self.optimizer = build_optimizer("adam", self.net.parameters(), LEARNING_RATE, 0.0)
        self.normalisation = Normalisation(
            input_mean=(0.0,) * c_in,
            input_std=(1.0,) * c_in,
            target_mean=(0.0,) * c_out,
            target_std=(1.0,) * c_out,
            data_range=1.0,
            label_counts=(),
        )
        self.labels: tuple[int, ...] = ()
        self.ignore: int | None = None
        self.collapse_channels = False

    @property
    def scale_in(self) -> nn.Module:
        """The layer that normalises the input."""
        return self.net.scale_in

    @property
    def scale_out(self) -> nn.Module:
        """The layer that rescales the output to the targets' mean and standard deviation."""
        return self.net.scale_out

    def set_normalization(self, dataloader: Batches) -> None:
        """Measure the data, and have the network scale inputs and targets to mean 0 and std 1.

        Statistics are per channel, in float64. They are saved with the network.

        Raises:
            InputError: there are no batches.
        """
        regression = self.task == "regression"
        inputs, targets = measure(dataloader, with_targets=regression)
        self.normalisation = replace(
            self.normalisation,
            input_mean=tuple(inputs.mean.tolist()),
            input_std=tuple(inputs.std.tolist()),
        )
        set_normalising(self.net.scale_in, inputs.mean.tolist(), inputs.std.tolist())
        if regression:
            self.normalisation = replace(
                self.normalisation,
                target_mean=tuple(targets.mean.tolist()),
                target_std=tuple(targets.std.tolist()),
                data_range=(targets.maximum - targets.minimum) or 1.0,
            )
            set_denormalising(self.net.scale_out, targets.mean.tolist(), targets.std.tolist())

    def save(self, path: str | Path, epoch: int) -> None:
        """Save the network, its normalisation and the optimizer.

        ``msdtool predict`` reads the file as well.

        Args:
            path: the file.
            epoch: the number of epochs the network has trained for.
        """
        model = Model.of(
            self.net,
            self.task,
            self.architecture,
            self.normalisation,
            labels=self.labels,
            ignore=self.ignore,
            collapse_channels=self.collapse_channels,
        )
        checkpoint = Checkpoint(
            model=model,
            config={},
            progress=TrainingProgress(epoch=epoch),
            metrics={},
            versions=versions(),
            training={"optimizer": self.optimizer.state_dict()},
        )
        save_checkpoint(Path(path), checkpoint)

    def load(self, path: str | Path) -> int:
        """Load what `save` or ``msdtool train`` wrote.

        Returns:
            The number of epochs the network has trained for.

        Raises:
            ModelFileError: the file is not a checkpoint, or is damaged; nothing has changed then.
            InputError: its network has another task or architecture.
        """
        checkpoint = load_checkpoint(Path(path))
        model = checkpoint.model
        found = {"task": model.task, **model.architecture.to_dict()}
        expected = {"task": self.task, **self.architecture.to_dict()}
        differing = [
            f"{key} {found.get(key)} instead of {expected.get(key)}"
            for key in {**expected, **found}
            if found.get(key) != expected.get(key)
        ]
        if differing:
            raise InputError(f"{path}: holds another network: {', '.join(differing)}")
        if model.scaling.is_per_image:
            raise InputError(
                f"{path}: its network normalises each image by its own statistics, which this "
                "class does not support; load it with msdtool.load"
            )
        if model.interval:
            raise InputError(
                f"{path}: its network outputs bounds of its results, which this class does not "
                "support; load it with msdtool.load"
            )
        if "optimizer" in checkpoint.training:
            try:
                restore_optimizer(
                    self.optimizer, self.net, checkpoint.training["optimizer"], step=None
                )
            except ValueError as error:
                raise ModelFileError(f"{path}: is damaged: {error}") from None
        self.net.load_state_dict(model.state)
        self.normalisation = model.normalisation
        self.labels, self.ignore = model.labels, model.ignore
        self.collapse_channels = model.collapse_channels
        return checkpoint.progress.epoch

    def print(self) -> None:
        """Print the network."""
        print(self.net)

"""What the models of both tasks have in common."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.data import Sample
from msdtool.data.statistics import Moments
from msdtool.errors import InputError
from msdtool.nn.build import Architecture, build_network
from msdtool.nn.device import choose_device
from msdtool.nn.msd import DILATIONS
from msdtool.nn.scaling import set_denormalising, set_normalising
from msdtool.runs.checkpoint import (
    Checkpoint,
    Model,
    Normalisation,
    load_checkpoint,
    save_checkpoint,
)
from msdtool.train.environment import versions
from msdtool.train.events import Progress
from msdtool.train.loop import Learner, Plan, train
from msdtool.train.losses import Loss
from msdtool.train.optim import Schedule, build_optimizer

Batches = Iterable[Sequence[Tensor]]

LEARNING_RATE = 1e-3


class MSDModel:
    """Base class: training, validation, normalisation, saving and loading.

    Use `MSDRegressionModel` or `MSDSegmentationModel`.

    Attributes:
        net: the network with its scaling layers.
        msd: the `MSDModule` in it.
        optimizer: Adam with learning rate 0.001.
        loss: the loss of the last forward calculation, or None.
    """

    task = ""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        dilations: Sequence[int] = DILATIONS,
        *,
        ndim: int = 2,
        padding: str = "symmetric",
        device: str | torch.device | None = None,
        criterion: Loss,
    ) -> None:
        self.architecture: Architecture = {
            "c_in": c_in,
            "c_out": c_out,
            "depth": depth,
            "width": width,
            "dilations": list(dilations),
            "ndim": ndim,
            "padding": padding,
        }
        self.device = torch.device(device) if device is not None else choose_device()
        self.net = build_network(self.architecture).to(self.device)
        self.msd = self.net.msd
        self.criterion = criterion
        self.optimizer = build_optimizer("adam", self.net.parameters(), LEARNING_RATE, 0.0)
        self.normalisation = Normalisation(
            input_mean=[0.0] * c_in,
            input_std=[1.0] * c_in,
            target_mean=[0.0] * c_out,
            target_std=[1.0] * c_out,
            data_range=1.0,
            label_counts=[],
        )
        self.labels: list[int] = []
        self.ignore: int | None = None
        self.collapse_channels = False
        self.input: Tensor | None = None
        self.target: Tensor | None = None
        self.output: Tensor | None = None
        self.loss: Tensor | None = None

    # One pair at a time ------------------------------------------------------------------------

    def set_input(self, data: Tensor) -> None:
        """Set the input [B, c_in, *space]."""
        self.input = data.to(self.device)

    def set_target(self, data: Tensor) -> None:
        """Set the target [B, c_out, *space], or class indices [B, 1, *space]."""
        self.target = data.to(self.device)

    def forward(self, input: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """Return the loss of an input-target pair; what is not given is as it was before.

        Raises:
            RuntimeError: input or target was never given.
        """
        if input is not None:
            self.set_input(input)
        if target is not None:
            self.set_target(target)
        if self.input is None or self.target is None:
            raise RuntimeError("no input or no target; give them to forward()")
        self.output = self.net(self.input)
        self.loss = self.criterion(self.output, self.target, None)
        return self.loss

    def learn(self, input: Tensor | None = None, target: Tensor | None = None) -> None:
        """Update the weights by one input-target pair."""
        self.optimizer.zero_grad(set_to_none=True)
        self.forward(input, target).backward()
        self.optimizer.step()

    def get_loss(self) -> float:
        """Return the mean loss of the last forward calculation.

        Raises:
            RuntimeError: there was none.
        """
        if self.loss is None:
            raise RuntimeError("no loss yet; call forward(), learn(), train() or validate() first")
        return float(self.loss.detach())

    def get_output(self) -> Tensor | None:
        """Return the last output [B, c_out, *space], or None before the first one."""
        return self.output

    # Whole data sets ---------------------------------------------------------------------------

    def train(self, dataloader: Batches, num_epochs: int) -> None:
        """Train for ``num_epochs`` passes over the batches.

        Raises:
            InputError: there are no batches.
            TrainingError: the loss is not finite.
        """
        batches_per_epoch = _length(dataloader)
        learner = Learner(
            self.net,
            self._remembering_criterion,
            self.optimizer,
            Schedule("constant", self.optimizer, 1),
            self.device,
        )
        # The loop seeds torch at each step; a seed of its own has each call shuffle anew.
        seed = int(torch.randint(2**31, ()))
        plan = Plan(epochs=num_epochs, batches_per_epoch=batches_per_epoch, seed=seed)
        for _ in train(learner, plan, _samples(dataloader), None, lambda index: f"batch {index}"):
            pass

    def _remembering_criterion(self, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        self.output, self.target = output, target
        self.loss = self.criterion(output, target, mask)
        return self.loss

    def validate(self, dataloader: Batches) -> float:
        """Return the mean loss over the batches.

        Raises:
            InputError: there are no batches.
        """
        losses = []
        self.net.eval()
        with torch.no_grad():
            for input, target, *mask in dataloader:
                self.input = input.to(self.device)
                output = self.net(self.input)
                on_device = mask[0].to(self.device) if mask else None
                loss = self._remembering_criterion(output, target.to(self.device), on_device)
                losses.append(float(loss))
        self.net.train()
        if not losses:
            raise InputError("the data loader has no batches")
        return math.fsum(losses) / len(losses)

    def set_normalization(self, dataloader: Batches) -> None:
        """Measure the data, and have the network bring inputs and targets to mean 0 and std 1.

        Statistics are per channel, in float64. They are saved with the network.

        Raises:
            InputError: there are no batches.
        """
        inputs, targets = Moments(), Moments()
        for input, target, *mask in dataloader:
            inputs.add(_channels(input))
            if self.task == "regression":
                values = _channels(target)
                targets.add(values[:, _channels(mask[0])[0] != 0] if mask else values)
        if not inputs.count:
            raise InputError("the data loader has no batches")
        self.normalisation["input_mean"] = inputs.mean.tolist()
        self.normalisation["input_std"] = inputs.std.tolist()
        set_normalising(self.net.scale_in, inputs.mean.tolist(), inputs.std.tolist())
        if self.task == "regression":
            self.normalisation["target_mean"] = targets.mean.tolist()
            self.normalisation["target_std"] = targets.std.tolist()
            self.normalisation["data_range"] = (targets.maximum - targets.minimum) or 1.0
            set_denormalising(self.net.scale_out, targets.mean.tolist(), targets.std.tolist())

    # On disk -----------------------------------------------------------------------------------

    def save(self, path: str | Path, epoch: int) -> None:
        """Save the network, its normalisation and the optimizer.

        ``msdtool predict`` reads the file, too.

        Args:
            path: the file.
            epoch: the number of epochs the network has trained for.
        """
        model = Model(
            task=self.task,
            architecture=self.architecture,
            state={name: tensor.cpu() for name, tensor in self.net.state_dict().items()},
            normalisation=self.normalisation,
            labels=self.labels,
            ignore=self.ignore,
            collapse_channels=self.collapse_channels,
            slab=0,
            splits=0,
            strategy="X:1",
        )
        checkpoint = Checkpoint(
            model=model,
            config={},
            progress=asdict(Progress(epoch=epoch)),
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
            ModelFileError: the file is no checkpoint.
            InputError: its network has another task or architecture.
        """
        checkpoint = load_checkpoint(Path(path))
        model = checkpoint["model"]
        found = {"task": model["task"], **model["architecture"]}
        expected = {"task": self.task, **self.architecture}
        differing = [
            f"{key} {found.get(key)} instead of {expected.get(key)}"
            for key in {**expected, **found}
            if found.get(key) != expected.get(key)
        ]
        if differing:
            raise InputError(f"{path}: holds another network: {', '.join(differing)}")
        self.net.load_state_dict(model["state"])
        self.normalisation = model["normalisation"]
        self.labels, self.ignore = model["labels"], model["ignore"]
        self.collapse_channels = model["collapse_channels"]
        if "optimizer" in checkpoint["training"]:
            self.optimizer.load_state_dict(checkpoint["training"]["optimizer"])
        return int(checkpoint["progress"]["epoch"])

    def print(self) -> None:
        """Print the network."""
        print(self.net)


def refuse_parallel(parallel: bool) -> None:
    """Refuse the original's data parallelism within one process."""
    if parallel:
        raise InputError("parallel is True; allowed: False, one model works on one device")


def _length(batches: Batches) -> int:
    length = len(batches)  # type: ignore[arg-type]
    if length == 0:
        raise InputError("the data loader has no batches")
    return length


def _samples(batches: Batches) -> Iterator[Sample]:
    """The batches over and over, as the training loop reads them."""
    while True:
        for number, (input, target, *mask) in enumerate(batches):
            yield Sample(input, target, mask[0] if mask else None, torch.tensor([number]))


def _channels(images: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A batch [B, C, *space] as values per channel [C, N]."""
    return images.transpose(0, 1).flatten(1).numpy().astype(np.float64)

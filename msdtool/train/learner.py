"""What changes while a network is trained, and the updates whose losses are not read yet."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from msdtool.errors import TrainingError
from msdtool.runs.training_progress import TrainingProgress
from msdtool.train.averaging import WeightAverage
from msdtool.train.freezing import Frozen
from msdtool.train.losses import Loss
from msdtool.train.optim import Schedule
from msdtool.train.precision import Precision
from msdtool.train.processes import ALONE, Processes
from msdtool.train.unread import Update


@dataclass
class Learner:
    """Everything that changes while a network is trained.

    Attributes:
        network: on ``device``.
        loss: what is minimised; it sums over ``processes``.
        optimizer: of the network's parameters.
        schedule: of the optimizer's learning rate.
        device: where to compute.
        progress: how far training has come.
        processes: those that train the network together.
        average: of the network's weights over the updates, if there is one.
        frozen: the parts of the network that are not trained, if there are any.
        precision: of forward and backward pass.
        called: the network as training calls it, by CUDA graphs or on several GPUs.
        name: returns the file name of a training image, for messages.
        reads_late: whether the loss of an update is read after the next was started.
        unread: the updates whose loss is not read yet.
        last_loss: mean loss of the last update that is; None: there is none.

    Raises:
        TrainingError: by `settle`.
    """

    network: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    device: torch.device
    progress: TrainingProgress = field(default_factory=TrainingProgress)
    processes: Processes = ALONE
    average: WeightAverage | None = None
    frozen: Frozen | None = None
    precision: Precision = field(default_factory=Precision)
    called: nn.Module = field(init=False)
    name: Callable[[int], str] = field(init=False, default=str)
    reads_late: bool = field(init=False)
    unread: deque[Update] = field(init=False, default_factory=deque)
    last_loss: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.processes.unite(self.network)
        self.called = self.network
        # fp16 skips updates whose gradients overflow, so it has to know them first.
        self.reads_late = self.device.type == "cuda" and not self.precision.may_skip

    @property
    def result(self) -> nn.Module:
        """The network to validate and save: the average, or the one that is trained."""
        return self.network if self.average is None else self.average.network

    def start(self) -> None:
        """Set the network to train, but for its frozen parts."""
        self.network.train()
        if self.frozen is not None:
            self.frozen.start()

    def update(self) -> None:
        """Make an update with the gradients that the network has."""
        self.precision.step(self.optimizer)
        if self.frozen is not None:
            self.frozen.after_update()
        self.schedule.after_update()
        if self.average is not None:
            self.average.add(self.network)

    def settle(self, keep: int = 0) -> None:
        """Read the losses of all updates but the last ``keep``, and note them in the progress.

        Raises:
            TrainingError: a loss or its gradient is not finite. If losses are read late, that has
                spoiled the weights.
        """
        while len(self.unread) > keep:
            update = self.unread[0]
            *losses, norm = update.read()
            good = all(map(math.isfinite, losses))
            skipped = good and self.precision.skips(norm)
            if not skipped and not (good and math.isfinite(norm)):
                raise self.processes.agreed(
                    self._not_finite(update, "gradient" if good else "loss")
                )
            self.unread.popleft()
            self.last_loss = math.fsum(losses) / len(losses)
            self.progress.loss_sum += math.fsum(losses)
            if not skipped:
                self.progress.updates += 1
                self.progress.norm_sum += norm

    def _not_finite(self, update: Update, what: str) -> TrainingError:
        indices = [index for share in self.processes.gather(update.indices) for index in share]
        names = ", ".join(map(self.name, indices))
        return TrainingError(
            f"the {what} is not finite at step {update.step} (epoch {update.epoch}), in the batch "
            f"of {names}; look at these images with 'msdtool check', or lower "
            f"training.learning_rate or set training.gradient_clip{self.precision.advice}"
        )

    def spend(self, since: float) -> None:
        """Add the time since ``since``, by `time.perf_counter`; the same on every process."""
        seconds = self.progress.seconds + time.perf_counter() - since
        self.progress.seconds = self.processes.largest(seconds)

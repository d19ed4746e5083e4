"""How far training has progressed, as a checkpoint holds it."""

import math
from dataclasses import dataclass


@dataclass
class TrainingProgress:
    """Counters of a training run; all plain data, a checkpoint's ``progress``.

    Attributes:
        epoch: completed epochs, including their validation.
        step: updates of the weights.
        batches: batches over all epochs.
        loss_sum: sum of the batches' losses in the current epoch.
        updates: updates of the weights in the current epoch.
        norm_sum: sum of the gradients' norms, before clipping, in the current epoch.
        best_loss: smallest value by which epochs are compared, the loss or minus what
            `training.select` names; inf before the first.
        best_epoch: its epoch, from 1; 0 before the first.
        stale: validations since the best one.
        seconds: time spent in training and validation.
        data_seconds: of that, time spent waiting for training batches.
        finished: why training ended; empty before that.
    """

    epoch: int = 0
    step: int = 0
    batches: int = 0
    loss_sum: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    finished: str = ""
    updates: int = 0
    norm_sum: float = 0.0

    @property
    def mean_norm(self) -> float | None:
        """Mean norm of the gradient in the current epoch; None before its first update."""
        return self.norm_sum / self.updates if self.updates else None

    def start_epoch(self, epoch: int) -> None:
        """Start the sums of epoch ``epoch``, from 1; those before are completed."""
        self.epoch, self.loss_sum, self.updates, self.norm_sum = epoch - 1, 0.0, 0, 0.0

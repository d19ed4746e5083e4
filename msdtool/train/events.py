"""How far training has come, and what it tells whoever drives it."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class Progress:
    """How far training has come; all plain data."""

    epoch: int = 0
    """Epochs that are finished, their validation included."""
    step: int = 0
    """Updates of the weights."""
    batches: int = 0
    """Batches over all epochs."""
    loss_sum: float = 0.0
    """Sum of the batches' losses in the epoch so far."""
    best_loss: float = math.inf
    best_epoch: int = 0
    stale: int = 0
    """Validations since the best one."""
    seconds: float = 0.0
    """Time spent in training and validation."""
    data_seconds: float = 0.0
    """Of that, time that training waited for its batches."""
    finished: str = ""
    """Why training is over; empty while it is not."""


@dataclass
class Validation:
    """The result of a validation."""

    loss: float
    metrics: dict[str, Any]
    image_losses: list[float]


@dataclass
class StepDone:
    """An update of the weights."""

    loss: float
    learning_rate: float


@dataclass
class ImageValidated:
    """One image of a validation."""

    index: int


@dataclass
class EpochDone:
    """An epoch, with its validation if there was one; cut short when time was up."""

    epoch: int
    train_loss: float
    validation: Validation | None
    improved: bool


Event = StepDone | ImageValidated | EpochDone

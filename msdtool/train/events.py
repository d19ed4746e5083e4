"""What the training loop reports to the code that consumes it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Validation:
    """The result of a validation.

    Attributes:
        loss: mean over the images.
        metrics: over all images.
        image_losses: in the order of the images.
        baseline: the same metrics of doing nothing, see `msdtool.train.baseline`.
    """

    loss: float
    metrics: dict[str, Any]
    image_losses: list[float]
    baseline: dict[str, float] = field(default_factory=dict)


@dataclass
class StepDone:
    """The weights were updated.

    Attributes:
        loss: mean over the batches of this update, or of the one before where that is read late.
        learning_rate: of this update.
    """

    loss: float
    learning_rate: float


@dataclass
class ImageValidated:
    """An image of the validation set was measured."""

    index: int


@dataclass
class EpochDone:
    """An epoch ended, with its validation if there was one; cut short if time ran out."""

    epoch: int
    train_loss: float
    gradient_norm: float | None
    validation: Validation | None
    improved: bool


Event = StepDone | ImageValidated | EpochDone

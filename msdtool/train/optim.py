"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau


class Schedule:
    """A learning rate over time.

    Args:
        name: constant, cosine, or plateau.
        optimizer: whose learning rate is set.
        total_updates: when cosine reaches 0.
        plateau_patience: validations without improvement before plateau halves the rate.
    """

    def __init__(
        self, name: str, optimizer: Optimizer, total_updates: int, plateau_patience: int = 5
    ) -> None:
        self.optimizer = optimizer
        self.total_updates = total_updates
        self.plateau = None
        if name == "plateau":
            # Torch counts the validations it tolerates, one less than those it waits for.
            self.plateau = ReduceLROnPlateau(
                optimizer, factor=0.5, patience=plateau_patience - 1, threshold=0, eps=0
            )
        self.cosine = LambdaLR(optimizer, self._cosine) if name == "cosine" else None

    def _cosine(self, update: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(update / self.total_updates, 1)))

    def after_update(self) -> None:
        """Call after each update of the weights."""
        if self.cosine is not None:
            self.cosine.step()

    def after_validation(self, loss: float) -> None:
        """Call with each loss that decides what is best."""
        if self.plateau is not None:
            self.plateau.step(loss)

    def state_dict(self) -> dict[str, object]:
        """Return the state as plain data."""
        chosen = self.plateau or self.cosine
        return {} if chosen is None else chosen.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take on a state that `state_dict` returned."""
        chosen = self.plateau or self.cosine
        if chosen is not None:
            chosen.load_state_dict(state)
        if self.cosine is not None:
            # The end may have moved since, and the optimizer's own state holds the old rate.
            for group, rate in zip(self.optimizer.param_groups, self.cosine.base_lrs, strict=True):
                group["lr"] = rate * self._cosine(self.cosine.last_epoch)


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> Optimizer:
    """Return Adam or AdamW over the parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    kind = {"adam": Adam, "adamw": AdamW}[name]
    return kind(trained, lr=learning_rate, weight_decay=weight_decay)

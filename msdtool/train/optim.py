"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class Schedule:
    """A learning rate over time.

    It rises linearly over the updates of the warm-up, which take a tenth of all updates at most,
    then follows the schedule.

    Args:
        name: constant, cosine, or plateau.
        optimizer: its learning rate is set.
        total_updates: updates after which cosine reaches 0.
        plateau_patience: validations without improvement after which plateau halves the rate.
        warmup: updates before the full rate is reached.
    """

    def __init__(
        self,
        name: str,
        optimizer: Optimizer,
        total_updates: int,
        plateau_patience: int = 5,
        warmup: int = 0,
    ) -> None:
        self.optimizer = optimizer
        self.total_updates = total_updates
        self.warmup = min(warmup, total_updates // 10)
        self.falls = name == "cosine"
        self.updates = 0
        self.rate = float(optimizer.param_groups[0]["lr"])
        self.plateau = None
        if name == "plateau":
            # Torch counts the validations that it tolerates: one less than those it waits for.
            self.plateau = ReduceLROnPlateau(
                optimizer, factor=0.5, patience=plateau_patience - 1, threshold=0, eps=0
            )
        self._set_rate()

    def _factor(self) -> float:
        """The share of the full rate that the next update is made with."""
        rising = min((self.updates + 1) / (self.warmup + 1), 1.0)
        if not self.falls:
            return rising
        done = min(self.updates / self.total_updates, 1)
        return rising * 0.5 * (1 + math.cos(math.pi * done))

    def _set_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self._factor()

    def after_update(self) -> None:
        """Call after each update of the weights."""
        self.updates += 1
        self._set_rate()

    def after_validation(self, loss: float) -> None:
        """Call with each loss by which epochs are compared."""
        if self.plateau is None:
            return
        before = self.optimizer.param_groups[0]["lr"]
        self.plateau.step(loss)
        self.rate *= self.optimizer.param_groups[0]["lr"] / before

    def state_dict(self) -> dict[str, object]:
        """Return the state as plain data."""
        plateau = {} if self.plateau is None else self.plateau.state_dict()
        return {"updates": self.updates, "rate": self.rate, "plateau": plateau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned, after that of the optimizer.

        The end may have moved since, so that the rate is another one than the optimizer's.
        """
        if "updates" not in state:  # torch's own state, as versions without warm-up saved it
            present = [group["lr"] for group in self.optimizer.param_groups]
            rate = state.get("base_lrs", present)[0]
            state = {"updates": state.get("last_epoch", 0), "rate": rate, "plateau": state}
        self.updates, self.rate = state["updates"], state["rate"]
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
        self._set_rate()


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> Optimizer:
    """Return Adam (``name`` adam) or AdamW (adamw) over the parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    kind = {"adam": Adam, "adamw": AdamW}[name]
    return kind(trained, lr=learning_rate, weight_decay=weight_decay)

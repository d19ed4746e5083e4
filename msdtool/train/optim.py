"""Optimizers and learning-rate schedules."""

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from msdtool.plain_data import fits, shown


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
        """The fraction of the full learning rate that the next update uses."""
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

        Raises:
            ValueError: the state is not one of such a schedule; nothing has changed then.
        """
        if "updates" not in state:  # torch's own state, as versions without warm-up saved it
            present = [group["lr"] for group in self.optimizer.param_groups]
            rates = state.get("base_lrs", present)
            first = rates[0] if isinstance(rates, list) and rates else None
            state = {"updates": state.get("last_epoch", 0), "rate": first, "plateau": state}
        updates: Any = state["updates"]
        rate: Any = state.get("rate")
        if not fits(updates, int) or updates < 0:
            raise ValueError(f"updates is {shown(updates)}; expected 0 or more")
        if not fits(rate, float) or not 0 < rate < math.inf:
            raise ValueError(f"rate is {shown(rate)}; expected a number above 0")
        if self.plateau is not None:
            self.plateau.load_state_dict(_plateau_state(state.get("plateau")))
        self.updates, self.rate = updates, rate
        self._set_rate()


def _plateau_state(state: Any) -> dict[str, Any]:
    """Return what changes of a plateau schedule while it is used; the rest is in the config.

    Raises:
        ValueError: it is missing or of another type.
    """
    counts = ("num_bad_epochs", "last_epoch")
    found: dict[str, Any] = dict.fromkeys(("best", *counts))
    if isinstance(state, dict):
        found = {key: state.get(key) for key in found}
    for key, value in found.items():
        is_right = fits(value, int) and value >= 0 if key in counts else fits(value, float)
        if not is_right or math.isnan(value):
            raise ValueError(f"plateau.{key} is {shown(value)}; expected a number")
    return found


class _Uncompiled(Optimizer):
    """What torch wraps for `torch.compile`, without: the wrappers import the compiler, for 2 s."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class _Adam(_Uncompiled, Adam):
    step = torch.no_grad()(inspect.unwrap(Adam.step))


class _AdamW(_Uncompiled, AdamW):
    step = torch.no_grad()(inspect.unwrap(AdamW.step))


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> Optimizer:
    """Return Adam (``name`` adam) or AdamW (adamw) over the parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    kind = {"adam": _Adam, "adamw": _AdamW}[name]
    # Bit for bit the same as a loop in Python over the weights, and faster.
    return kind(trained, lr=learning_rate, weight_decay=weight_decay, foreach=True)

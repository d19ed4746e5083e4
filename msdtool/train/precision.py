"""The precision of forward and backward pass: that of matrix products, or 16 bits and a scale."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from msdtool.errors import ConfigError
from msdtool.nn.device import matrix_products
from msdtool.plain_data import fits, shown

CPU = torch.device("cpu")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = ("scale", "_growth_tracker")


def check_precision(name: str, device: torch.device) -> None:
    """Raise ConfigError where a precision other than float32 would not help."""
    if name != "float32" and device.type != "cuda":
        raise ConfigError(
            f"training.precision: {name} is for GPUs; got a {device.type}, whose float32 is "
            "no slower; set it to float32"
        )


class Precision:
    """How an update is computed; weights, loss and optimizer are float32 in any case.

    Mixed precision is that of Micikevicius et al., "Mixed precision training" (ICLR 2018): with
    fp16, the loss is multiplied by a scale that keeps small gradients from vanishing. It halves,
    and the update is skipped, where gradients overflow.

    Args:
        name: float32, tf32, bf16 or fp16.
        device: where the network is.
    """

    def __init__(self, name: str = "float32", device: torch.device = CPU) -> None:
        self.name, self.device = name, device
        self.dtype = DTYPES.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    @property
    def advice(self) -> str:
        """What else to try where values are not finite, as the end of a list."""
        return ", or training.precision: bf16" if self.scaler.is_enabled() else ""

    @contextmanager
    def products(self) -> Iterator[None]:
        """Within the context, forward and backward pass have the precision's matrix products."""
        if self.name == "tf32":
            with matrix_products(tf32=True):
                yield
        else:
            yield

    def output(self, network: nn.Module, input: Tensor) -> Tensor:
        """Compute a network's output, in float32 if it is computed in 16 bits."""
        if self.dtype is None:
            output: Tensor = network(input)
            return output
        with torch.autocast(self.device.type, dtype=self.dtype):
            output = network(input)
        return output.float()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, times the scale, to those of the weights."""
        torch.autograd.backward(self.scaler.scale(loss))

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale."""
        self.scaler.unscale_(optimizer)

    @property
    def may_skip(self) -> bool:
        """Whether an update depends on its gradients being finite."""
        return self.scaler.is_enabled()

    def skips(self, norm: float) -> bool:
        """Whether gradients of this norm, not yet divided by the least scale, only overflow."""
        return not math.isfinite(norm) and self.scaler.is_enabled() and self.scaler.get_scale() > 1

    def step(self, optimizer: Optimizer) -> None:
        """Update the weights, unless gradients overflow; adapt the scale."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and its age as plain data; nothing if there is none."""
        state = self.scaler.state_dict()
        return {name: state[name] for name in NAMES if name in state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Raises:
            ValueError: it is not one of this precision; the message starts with the key.
        """
        if not self.scaler.is_enabled():
            if state:
                raise ValueError(f" is {shown(state)}; expected nothing with {self.name}")
            return
        scale: Any = state.get("scale")
        age: Any = state.get("_growth_tracker")
        if not fits(scale, float) or not 0 < scale < math.inf:
            raise ValueError(f".scale is {shown(scale)}; expected a number above 0")
        if not fits(age, int) or not 0 <= age < self.scaler.get_growth_interval():
            raise ValueError(f"._growth_tracker is {shown(age)}; expected a number of updates")
        self.scaler.load_state_dict(
            {**self.scaler.state_dict(), "scale": scale, "_growth_tracker": age}
        )

"""Numbers of the original layer systems, computed by the originals in float64 on the CPU.

``SYSTEM/NAME.npz`` holds the arrays of a case and ``SYSTEM/NAME.json`` what was called:

====================  ==================================================================
param.X, buffer.X     state before the call, X being the original's state-dict name
in.N, out.N           positional inputs, outputs
gy.N                  weights of the outputs in the loss, sum over N of sum(out.N * gy.N)
grad.in.N             gradient of that loss; likewise grad.param.X
after.X               state after the call
rankR.*               values of process R in the cases of two processes
====================  ==================================================================
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent


class Case:
    """One case; ``case["in.0"]`` is an array of it as a tensor."""

    def __init__(self, system: str, name: str) -> None:
        self.description: dict[str, Any] = json.loads(
            (FOLDER / system / f"{name}.json").read_text()
        )
        with np.load(FOLDER / system / f"{name}.npz") as file:
            self.arrays = {key: torch.from_numpy(file[key].copy()) for key in file.files}
        self.args = self.description["ctor"].get("args", [])
        self.kwargs = self.description["ctor"].get("kwargs", {})

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The arrays named ``prefix.X``, by X."""
        return {
            key.removeprefix(f"{prefix}."): value
            for key, value in self.arrays.items()
            if key.startswith(f"{prefix}.")
        }

    def state(self) -> dict[str, Tensor]:
        """The state dict before the call."""
        return {**self.group("param"), **self.group("buffer")}

    def assert_close(self, found: Any, key: str) -> None:
        """Compare with the array ``key`` at the case's own tolerances."""
        torch.testing.assert_close(
            torch.as_tensor(found),
            self[key],
            rtol=self.description["rtol"],
            atol=self.description["atol"],
            msg=lambda text: f"{key}: {text}",
        )

    def check_gradients(self, layer: nn.Module, input: Tensor, prefix: str = "") -> None:
        """Compare the gradients of the input and of every parameter that the case has."""
        self.assert_close(input.grad, f"{prefix}grad.in.0")
        for name in self.group(f"{prefix}grad.param"):
            self.assert_close(layer.get_parameter(name).grad, f"{prefix}grad.param.{name}")

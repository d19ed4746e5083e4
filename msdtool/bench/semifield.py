"""Semifield convolutions against the broadcast formulation: time and memory of a step."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from msdtool.bench.memory import step_growth
from msdtool.bench.timing import interleave
from msdtool.errors import Error
from msdtool.nn.semifield import BroadcastSemifield, SelectSemifield, SubtractSemifield
from msdtool.nn.semifield.conv import SemifieldConv
from msdtool.ops.semifield import subtract_conv

TOLERANCE = 1e-3


@dataclass(frozen=True)
class SemifieldCase:
    """An image [1, in_channels, size, size] and ``out_channels`` kernels of 3x3."""

    size: int = 256
    in_channels: int = 16
    out_channels: int = 8

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return image and kernel, positive as the root requires, and the output's gradient."""
        generator = torch.Generator().manual_seed(0)
        img = torch.rand(1, self.in_channels, self.size, self.size, generator=generator)
        kernel = torch.rand(self.out_channels, self.in_channels, 3, 3, generator=generator)
        grad = torch.randn(1, self.out_channels, self.size, self.size, generator=generator)
        return img.requires_grad_(), kernel.requires_grad_(), grad


@dataclass(frozen=True)
class SemifieldRow:
    """Medians in seconds; ratios are relative to the broadcast formulation of the semifield."""

    semifield: str
    method: str
    forward_seconds: float
    step_seconds: float
    step_bytes: int | None
    speedup: float
    memory_share: float | None

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self)


def term_by_term(semifield: SubtractSemifield) -> nn.Module:
    """Make what `SubtractSemifield.dynamic` does, without using a linear convolution."""
    return SemifieldConv(partial(subtract_conv, semifield=semifield, impl="torch"), "term by term")


# The methods of each semifield, the broadcast formulation first.
METHODS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "max": {
        "broadcast": lambda: BroadcastSemifield.tropical_max().dynamic(),
        "select": lambda: SelectSemifield.tropical_max().dynamic(),
    },
    "log(2)": {
        "broadcast": lambda: BroadcastSemifield.log(2.0).dynamic(),
        "subtract": lambda: SubtractSemifield.log(2.0).dynamic(),
        "subtract, term by term": lambda: term_by_term(SubtractSemifield.log(2.0)),
    },
    "root(3)": {
        "broadcast": lambda: BroadcastSemifield.root(3.0).dynamic(),
        "subtract": lambda: SubtractSemifield.root(3.0).dynamic(),
        "subtract, term by term": lambda: term_by_term(SubtractSemifield.root(3.0)),
    },
}


class Step:
    """Forward and backward of one method, to be timed one after the other."""

    def __init__(self, semifield: str, method: str, case: SemifieldCase) -> None:
        self.conv = METHODS[semifield][method]()
        self.img, self.kernel, self.grad = case.tensors()
        self.output = self.grad

    def forward(self) -> None:
        """Convolve."""
        self.output = self.conv(self.img, self.kernel, padding="same")

    def backward(self) -> tuple[Tensor, ...]:
        """Return the gradients of image and kernel, and release the graph."""
        output, self.output = self.output, self.grad
        return torch.autograd.grad(output, (self.img, self.kernel), self.grad)

    def __call__(self) -> tuple[Tensor, ...]:
        """Take both; return the output as well."""
        self.forward()
        output = self.output.detach()
        return output, *self.backward()


def prepare_step(semifield: str, method: str, case: SemifieldCase, tiny: bool) -> Step:
    """Make the step that `step_growth` measures."""
    return Step(semifield, method, SemifieldCase(16, 2, 2) if tiny else case)


def run_semifields(case: SemifieldCase, seconds: float) -> Iterator[list[SemifieldRow]]:
    """Measure one semifield after another on the CPU; yield the rows of each.

    Raises:
        Error: a method's output or gradients differ from the broadcast formulation's.
    """
    for semifield, methods in METHODS.items():
        steps = {method: Step(semifield, method, case) for method in methods}
        _check(semifield, steps)
        parts = {name: (step.forward, step.backward) for name, step in steps.items()}
        times = interleave(parts, seconds)
        medians = {
            name: (
                statistics.median(forward),
                statistics.median([f + b for f, b in zip(forward, backward, strict=True)]),
            )
            for name, (forward, backward) in times.items()
        }
        growth = {
            name: step_growth(partial(prepare_step, semifield, name, case)) for name in methods
        }
        base_time, base_bytes = medians["broadcast"][1], growth["broadcast"]
        rows = []
        for name in methods:
            used = growth[name]
            share = used / base_bytes if used is not None and base_bytes else None
            forward, step = medians[name]
            rows.append(SemifieldRow(semifield, name, forward, step, used, base_time / step, share))
        yield rows


def _check(semifield: str, steps: dict[str, Step]) -> None:
    expected = steps["broadcast"]()
    for method, step in steps.items():
        for found, right in zip(step(), expected, strict=True):
            error = float((found - right).abs().max() / right.abs().max())
            if not error <= TOLERANCE:
                raise Error(
                    f"{semifield} by {method} differs from the broadcast formulation by "
                    f"{error:.2g} relative, at most {TOLERANCE} is allowed"
                )

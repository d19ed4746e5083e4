"""Correctness of the engine, checked before any timing."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from msdtool import ops
from msdtool.bench.cases import Case, Problem
from msdtool.border import PADDINGS
from msdtool.errors import Error

TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5}

# Odd sizes, the smallest barely larger than the dilations.
SMALL = (
    Case((11, 23), depth=23),
    Case((25, 17), depth=7, width=4, batch=2, c_in=3, c_out=2),
    Case((11, 13, 15), depth=12),
    Case((5, 9, 7), depth=4, width=3, batch=2, c_in=2, c_out=2),
)
# Larger than what the engine processes at once. Not in float32, where a value within rounding error
# of zero can fall on either side of the ReLU, which changes gradients visibly. The small cases have
# no value that close to zero.
LARGE = (
    Case((257, 131), depth=21),
    Case((37, 29, 31), depth=7, width=2),
)


def check_engine(device: torch.device) -> dict[str, float]:
    """Compare outputs and gradients with the reference, computed in float64.

    Returns:
        The largest relative error for each dtype, by its name.

    Raises:
        Error: an error exceeds the allowed one; names the case.
    """
    largest: dict[str, float] = {}
    for case, dtype in _cases():
        name = str(dtype).removeprefix("torch.")
        for what, error in relative_errors(case, dtype, device).items():
            # Written so that NaN is refused as well.
            if not error <= TOLERANCES[dtype]:
                raise Error(
                    f"the engine is wrong, so nothing is timed: {what} differs from the "
                    f"reference by {error:.2g} relative in {name} on {device} ({case}); at most "
                    f"{TOLERANCES[dtype]:.2g} is allowed. Please report this with your versions "
                    "of torch and Python"
                )
            largest[name] = max(error, largest.get(name, 0.0))
    return largest


def relative_errors(case: Case, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """The largest error of the output and of each gradient, relative to its largest value."""
    found = _results(Problem(case, device, dtype), "auto")
    expected = _results(Problem(case, device, torch.float64), "reference")
    return {
        name: float((found[name] - expected[name]).abs().max() / expected[name].abs().max())
        for name in expected
    }


def _cases() -> Iterator[tuple[Case, torch.dtype]]:
    for padding in PADDINGS:
        for case in SMALL:
            for dtype in TOLERANCES:
                yield replace(case, padding=padding), dtype
    for case in LARGE:
        yield case, torch.float64


def _results(problem: Problem, impl: str) -> dict[str, torch.Tensor]:
    problem.input.requires_grad_()
    output = problem.forward(partial(ops.msd_module, impl=impl))
    weights = [f"the gradient by weight{layer}" for layer in range(len(problem.weights))]
    others = ("bias", "the final layer's weight", "the final layer's bias", "the input")
    names = ["the output", *weights, *(f"the gradient by {name}" for name in others)]
    return dict(zip(names, (output.detach(), *problem.backward(output)), strict=True))

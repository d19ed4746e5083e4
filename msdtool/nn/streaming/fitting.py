"""How a layer trains itself on a series, piece by piece."""

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from msdtool.nn.streaming.output import as_output
from msdtool.nn.streaming.series import TIME_AXES, as_tensor, pieces, with_axes

if TYPE_CHECKING:
    from msdtool.nn.streaming.layer import Layer

LossFunction = Callable[[Tensor, Tensor], Tensor]


def sum_of_squares(target: Tensor, output: Tensor) -> Tensor:
    """Sum of the squared differences."""
    return ((target - output) ** 2).sum()


def fit(
    layer: "Layer",
    inp: Any,
    outp: Any,
    optimizer: Optimizer | None,
    loss_fn: LossFunction,
    dt: int | None,
    t: int,
    t_skip: int,
) -> list[float]:
    """See `Layer.optimize`; without an optimizer gradients add up.

    Raises:
        ValueError: input and target differ in their number of frames.
    """
    num_axes = layer.num_axes or 5
    inputs, targets = (with_axes(as_tensor(x, layer.device), num_axes) for x in (inp, outp))
    axis = TIME_AXES[inputs.dim()]
    if inputs.shape[axis] != targets.shape[axis]:
        raise ValueError(
            f"the input has {inputs.shape[axis]} frames, the target {targets.shape[axis]}"
        )
    if t_skip:
        with torch.no_grad():
            for piece in pieces(inputs, dt, t, t + t_skip):
                layer(piece)
    start = t + t_skip
    pairs = zip(pieces(inputs, dt, start), pieces(targets, dt, start), strict=True)
    return [_fit_piece(layer, *pair, optimizer, loss_fn) for pair in pairs]


def _fit_piece(
    layer: "Layer",
    input: Tensor,
    target: Tensor,
    optimizer: Optimizer | None,
    loss_fn: LossFunction,
) -> float:
    layer.detach_state()
    before = layer.get_state()

    def closure() -> float:
        # Some optimizers evaluate more than once, each time from the same past.
        layer.set_state(before)
        if optimizer is not None:
            optimizer.zero_grad()
        loss = loss_fn(target, as_output(layer(input))[0])
        torch.autograd.backward(loss)
        return float(loss.detach())

    return closure() if optimizer is None else float(optimizer.step(closure))


class OptimizerChoice:
    """Sets the optimizer of a layer; see `Layer.set_optimizer`."""

    def __init__(self, layer: "Layer") -> None:
        self._layer = layer

    def __call__(self, optimizer: str | type[Optimizer], *args: Any, **kwargs: Any) -> Optimizer:
        """Make the optimizer, set it and return it.

        Raises:
            AttributeError: torch.optim has no optimizer of this name.
        """
        kind = getattr(self, optimizer).kind if isinstance(optimizer, str) else optimizer
        if not args:
            args = (list(self._layer.parameters()),)
        self._layer.optimizer = kind(*args, **kwargs)
        return self._layer.optimizer

    def __getattr__(self, name: str) -> "_NamedOptimizer":
        kind = getattr(torch.optim, name, None)
        if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
            close = difflib.get_close_matches(name, dir(torch.optim), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise AttributeError(f"torch.optim has no optimizer {name!r}{hint}")
        return _NamedOptimizer(self, kind)


class _NamedOptimizer:
    def __init__(self, choice: OptimizerChoice, kind: type[Optimizer]) -> None:
        self.choice, self.kind = choice, kind

    def __call__(self, *args: Any, **kwargs: Any) -> Optimizer:
        return self.choice(self.kind, *args, **kwargs)

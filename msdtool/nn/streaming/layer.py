"""The base of layers that process a time series in pieces, and how they are fitted."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from msdtool.nn.streaming.output import Output, as_output
from msdtool.nn.streaming.series import TIME_AXES, as_tensor, pieces, with_axes
from msdtool.nn.streaming.state import Stateful

LossFunction = Callable[[Tensor, Tensor], Tensor]


def sum_of_squares(target: Tensor, output: Tensor) -> Tensor:
    """Sum of the squared differences."""
    return ((target - output) ** 2).sum()


class Layer(Stateful):
    """A module that takes time series, in one call or in pieces, and can be fitted to them.

    A subclass implements ``forward`` for one piece and registers with `register_state` what it must
    remember for the next one. State is not part of the state dict: it belongs to a series.

    Attributes:
        dim: number of axes that ``forward`` expects, 1, 3 or 5: inputs with fewer axes are
            expanded, and inputs other than tensors converted to float32. None: inputs are passed on
            unchanged.
        dims: another name for ``dim``, which layers written for the original may set.
        outputs: names of attributes that a call returns besides the result, as an `Output`.
        optimizer: the optimizer of `optimize`, set with `set_optimizer`.
    """

    dim: int | None = None
    dims: int | None = None
    outputs: Sequence[str] = ()
    optimizer: Optimizer | None

    def __init__(self) -> None:
        super().__init__()
        self.optimizer = None

    # Calling ----------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Apply the layer to one piece, with the state that the previous piece left.

        Raises:
            ValueError: an input is not a series.
        """
        tensors = [with_axes(as_tensor(values, self.device), self.num_axes) for values in inputs]
        result = super().__call__(*tensors, **kwargs)
        if not self.outputs:
            return result
        others = [getattr(self, name) for name in self.outputs]
        return Output([result, *others], keys=["output", *self.outputs])

    def run(
        self,
        x: Any,
        dt: int | None = None,
        t: int = 0,
        detach: bool = True,
        max_t: int | None = None,
    ) -> Output:
        """Apply the layer to a series, ``dt`` frames at a time; the result equals that of one call.

        State is carried over from earlier calls: call `clear_state` before a new series. Gradients
        do not reach the frames that a piece remembers from earlier pieces.

        Args:
            x: the series, [T], [T, X, Y] or [B, C, T, X, Y].
            dt: frames per piece; None for all at once.
            t: the first frame.
            detach: detach an input `Output` from its autograd graph.
            max_t: the frame to stop before.

        Raises:
            ValueError: the input is not a series, or has no frames in this range.
        """
        if isinstance(x, Output) and detach:
            x = x[0].detach()
        series = with_axes(as_tensor(x, self.device), self.num_axes or 5)
        results = [as_output(self(piece)) for piece in pieces(series, dt, t, max_t)]
        joined = [_join([result[k] for result in results]) for k in range(len(results[0]))]
        return Output(joined, keys=results[0].keys)

    @property
    def num_axes(self) -> int | None:
        """Number of axes that ``forward`` expects; None for any."""
        return self.dims if self.dim is None else self.dim

    @property
    def device(self) -> torch.device:
        """The device of the first parameter, or the CPU if there is none."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    # Training ---------------------------------------------------------------------------------

    @property
    def set_optimizer(self) -> "OptimizerChoice":
        """Choose the optimizer: ``set_optimizer.SGD(lr=0.1)`` or ``set_optimizer("SGD", lr=0.1)``.

        Any optimizer of `torch.optim` by name, or a class; it is given the layer's parameters
        unless others are passed first.
        """
        return OptimizerChoice(self)

    def optimize(
        self,
        inp: Any,
        outp: Any,
        optimizer: Optimizer | None = None,
        loss_fn: LossFunction = sum_of_squares,
        dt: int | None = None,
        t: int = 0,
        t_skip: int = 0,
    ) -> list[float]:
        """Fit the layer to a series, one update per piece, carrying the state from piece to piece.

        Args:
            inp: the input series.
            outp: the target series.
            optimizer: None for the layer's own.
            loss_fn: maps target and output to the loss.
            dt: frames per piece; None for one update on all of them.
            t: the first frame.
            t_skip: number of frames from there that are only run, not fitted.

        Returns:
            The loss of each piece before its update.

        Raises:
            AssertionError: there is no optimizer.
            ValueError: input and target differ in their number of frames.
        """
        chosen = optimizer or self.optimizer
        if chosen is None:
            raise AssertionError(
                "the layer has no optimizer; call set_optimizer.SGD(lr=0.01) first"
            )
        return _fit(self, inp, outp, chosen, loss_fn, dt, t, t_skip)

    def compute_loss(
        self,
        inp: Any,
        outp: Any,
        loss_fn: LossFunction = sum_of_squares,
        dt: int | None = None,
        t: int = 0,
        t_skip: int = 0,
    ) -> list[float]:
        """Return the losses as `optimize` does, accumulating gradients instead of updating."""
        return _fit(self, inp, outp, None, loss_fn, dt, t, t_skip)


def _join(series: list[Tensor]) -> Tensor:
    """Join pieces along time.

    Raises:
        ValueError: they are not series.
    """
    if series[0].dim() not in TIME_AXES:
        raise ValueError(f"an output has shape {tuple(series[0].shape)}, which is not a series")
    return torch.cat(series, TIME_AXES[series[0].dim()])


def _fit(
    layer: Layer,
    inp: Any,
    outp: Any,
    optimizer: Optimizer | None,
    loss_fn: LossFunction,
    dt: int | None,
    t: int,
    t_skip: int,
) -> list[float]:
    """See `Layer.optimize`; without an optimizer gradients accumulate.

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
    layer: Layer,
    input: Tensor,
    target: Tensor,
    optimizer: Optimizer | None,
    loss_fn: LossFunction,
) -> float:
    layer.detach_state()
    before = layer.get_state()

    def closure() -> float:
        # Some optimizers evaluate several times, each time from the same state.
        layer.set_state(before)
        if optimizer is not None:
            optimizer.zero_grad()
        loss = loss_fn(target, as_output(layer(input))[0])
        torch.autograd.backward(loss)
        return float(loss.detach())

    return closure() if optimizer is None else float(optimizer.step(closure))


class OptimizerChoice:
    """Sets the optimizer of a layer; see `Layer.set_optimizer`."""

    def __init__(self, layer: Layer) -> None:
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

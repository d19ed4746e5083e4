"""The base of layers that take a time series in pieces."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from msdtool.atomic import atomic_path
from msdtool.nn.streaming.fitting import LossFunction, OptimizerChoice, fit, sum_of_squares
from msdtool.nn.streaming.output import Output, as_output
from msdtool.nn.streaming.series import TIME_AXES, as_tensor, pieces, with_axes

State = OrderedDict[str, Any]


class Layer(nn.Module):
    """A module that takes time series, in one call or in pieces, and can train itself.

    A subclass writes ``forward`` for one piece and registers with `register_state` what it must
    remember for the next one. State is not part of the state dict: it belongs to a series.

    Attributes:
        dim: how many axes ``forward`` wants, 1, 3 or 5: inputs of fewer axes are given them, and
            what is no tensor becomes a float32 one. None: inputs are passed on as they come.
        dims: another name of ``dim``, which layers written for the original may set.
        outputs: names of attributes that a call returns beside the result, as an `Output`.
        optimizer: what `optimize` steps, set with `set_optimizer`.
    """

    dim: int | None = None
    dims: int | None = None
    outputs: Sequence[str] = ()
    optimizer: Optimizer | None

    def __init__(self) -> None:
        super().__init__()
        self.optimizer = None
        self._defaults: dict[str, Any] = {}
        self._pushed_states: list[State] = []
        self._pushed_parameters: list[dict[str, Tensor]] = []

    # Calling ----------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Apply the layer to one piece; the state is as the piece before left it.

        Raises:
            ValueError: an input is no series.
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
        """Apply the layer to a series, ``dt`` frames at a time; the result is that of one call.

        State is carried on from whatever came before: call `clear_state` before a new series. No
        gradient reaches the frames that a piece remembers of those before it.

        Args:
            x: the series, [T], [T, X, Y] or [B, C, T, X, Y].
            dt: frames per piece; None: all at once.
            t: the first frame.
            detach: cut an `Output` off from the graph it comes from.
            max_t: the frame to stop before.

        Raises:
            ValueError: the input is no series, or has no frames in this range.
        """
        if isinstance(x, Output) and detach:
            x = x[0].detach()
        series = with_axes(as_tensor(x, self.device), self.num_axes or 5)
        results = [as_output(self(piece)) for piece in pieces(series, dt, t, max_t)]
        joined = [_join([result[k] for result in results]) for k in range(len(results[0]))]
        return Output(joined, keys=results[0].keys)

    @property
    def num_axes(self) -> int | None:
        """How many axes ``forward`` wants; None: any."""
        return self.dims if self.dim is None else self.dim

    @property
    def device(self) -> torch.device:
        """Where the layer computes: where its first parameter is, else the CPU."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    # State ------------------------------------------------------------------------------------

    def register_state(self, name: str, default: Any = None) -> None:
        """Have attribute ``name`` belong to the state; it starts as a copy of ``default``."""
        self._defaults[name] = default
        setattr(self, name, _copied(default))

    def _states(self) -> Iterator[tuple[str, "Layer", str]]:
        """The dotted name of each state here and in the layers inside, its layer and attribute."""
        for path, module in self.named_modules():
            if isinstance(module, Layer):
                for name in module._defaults:
                    yield f"{path}.{name}".lstrip("."), module, name

    def get_state(self) -> State:
        """Return a copy of the state of this layer and of the layers inside, by dotted name."""
        return OrderedDict(
            (key, _copied(getattr(layer, name))) for key, layer, name in self._states()
        )

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a copy of (a part of) the state that `get_state` returned.

        Raises:
            ValueError: a name is not one of a state.
        """
        known = {key: (layer, name) for key, layer, name in self._states()}
        for key in state:
            if key not in known:
                raise ValueError(f"there is no state {key!r}; there are: {', '.join(known)}")
        for key, value in state.items():
            layer, name = known[key]
            setattr(layer, name, _copied(value))

    def clear_state(self) -> None:
        """Forget the series so far, here and in the layers inside."""
        for _, layer, name in self._states():
            setattr(layer, name, _copied(layer._defaults[name]))

    def detach_state(self) -> None:
        """Keep the state's values and cut them off from the graph they come from."""
        for _, layer, name in self._states():
            setattr(layer, name, _copied(getattr(layer, name), torch.Tensor.detach))

    def push_state(self) -> None:
        """Keep a copy of the state for `pop_state`."""
        self._pushed_states.append(self.get_state())

    def pop_state(self) -> None:
        """Return to the state that was pushed last.

        Raises:
            IndexError: none was.
        """
        self.set_state(_popped(self._pushed_states, "state"))

    # Parameters -------------------------------------------------------------------------------

    def save_parameters(self, path: str | Path) -> None:
        """Write parameters and buffers as a NumPy archive, by their state-dict names."""
        arrays = {name: value.cpu().numpy() for name, value in self.state_dict().items()}
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def load_parameters(self, path: str | Path) -> None:
        """Read what `save_parameters` wrote.

        Raises:
            RuntimeError: names or shapes are not those of this layer.
        """
        with np.load(Path(path)) as file:
            self.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})

    def push_parameters(self) -> None:
        """Keep a copy of parameters and buffers for `pop_parameters`."""
        self._pushed_parameters.append(
            {name: value.clone() for name, value in self.state_dict().items()}
        )

    def pop_parameters(self) -> None:
        """Return to the parameters that were pushed last.

        Raises:
            IndexError: none were.
        """
        kept = _popped(self._pushed_parameters, "parameters")
        for name, value in self.state_dict(keep_vars=True).items():
            value.data = kept[name]  # may have another shape than now

    def push_all(self) -> None:
        """`push_state` and `push_parameters`."""
        self.push_state()
        self.push_parameters()

    def pop_all(self) -> None:
        """`pop_state` and `pop_parameters`."""
        self.pop_state()
        self.pop_parameters()

    # Training ---------------------------------------------------------------------------------

    @property
    def set_optimizer(self) -> "OptimizerChoice":
        """Choose the optimizer: ``set_optimizer.SGD(lr=0.1)`` or ``set_optimizer("SGD", lr=0.1)``.

        Any of `torch.optim` by name, or an optimizer's class; it gets the layer's parameters
        unless others are given first.
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
        """Fit the layer to a series, one update per piece, the state carried from one to the next.

        Args:
            inp: the input series.
            outp: what the layer shall make of it.
            optimizer: None: the layer's own.
            loss_fn: maps target and output to the loss.
            dt: frames per piece; None: one update on all of them.
            t: the first frame.
            t_skip: the first frames after it that are only run, not fitted.

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
        return fit(self, inp, outp, chosen, loss_fn, dt, t, t_skip)

    def compute_loss(
        self,
        inp: Any,
        outp: Any,
        loss_fn: LossFunction = sum_of_squares,
        dt: int | None = None,
        t: int = 0,
        t_skip: int = 0,
    ) -> list[float]:
        """Return the losses as `optimize` does, adding up gradients instead of updating."""
        return fit(self, inp, outp, None, loss_fn, dt, t, t_skip)


def _join(series: list[Tensor]) -> Tensor:
    """Join pieces along time.

    Raises:
        ValueError: they are no series.
    """
    if series[0].dim() not in TIME_AXES:
        raise ValueError(f"an output has shape {tuple(series[0].shape)}, which is no series")
    return torch.cat(series, TIME_AXES[series[0].dim()])


def _copied(value: Any, copy_tensor: Callable[[Tensor], Tensor] = torch.Tensor.clone) -> Any:
    """A copy that shares nothing with the original; tensors stay in their graph."""
    if isinstance(value, Tensor):
        return copy_tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item, copy_tensor) for item in value)
    if isinstance(value, dict):
        return {key: _copied(item, copy_tensor) for key, item in value.items()}
    return copy.deepcopy(value)


def _popped(stack: list[Any], what: str) -> Any:
    if not stack:
        raise IndexError(f"no {what} to return to; push first")
    return stack.pop()

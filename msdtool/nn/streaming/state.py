"""State and parameters of layers that remember a series: copied, saved, restored."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msdtool.atomic import atomic_path

State = OrderedDict[str, Any]


class Stateful(nn.Module):
    """A module with state; it belongs to a series and is not part of the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self._defaults: dict[str, Any] = {}
        self._pushed_states: list[State] = []
        self._pushed_parameters: list[dict[str, Tensor]] = []

    def register_state(self, name: str, default: Any = None) -> None:
        """Make attribute ``name`` part of the state, initially a copy of ``default``."""
        self._defaults[name] = default
        setattr(self, name, _copied(default))

    def _states(self) -> Iterator[tuple[str, "Stateful", str]]:
        """Yield dotted name, layer and attribute of each state, sublayers included."""
        for path, module in self.named_modules():
            if isinstance(module, Stateful):
                for name in module._defaults:
                    yield f"{path}.{name}".lstrip("."), module, name

    def get_state(self) -> State:
        """Return a copy of the state of this layer and its sublayers, by dotted name."""
        return OrderedDict(
            (key, _copied(getattr(layer, name))) for key, layer, name in self._states()
        )

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a copy of (a part of) the state that `get_state` returned.

        Raises:
            ValueError: a name is not that of a state.
        """
        known = {key: (layer, name) for key, layer, name in self._states()}
        for key in state:
            if key not in known:
                raise ValueError(f"there is no state {key!r}; allowed: {', '.join(known)}")
        for key, value in state.items():
            layer, name = known[key]
            setattr(layer, name, _copied(value))

    def clear_state(self) -> None:
        """Forget the series so far, in this layer and its sublayers."""
        for _, layer, name in self._states():
            setattr(layer, name, _copied(layer._defaults[name]))

    def detach_state(self) -> None:
        """Keep the values of the state but detach them from the autograd graph."""
        for _, layer, name in self._states():
            setattr(layer, name, _copied(getattr(layer, name), torch.Tensor.detach))

    def push_state(self) -> None:
        """Push a copy of the state for `pop_state`."""
        self._pushed_states.append(self.get_state())

    def pop_state(self) -> None:
        """Restore the state that was pushed last.

        Raises:
            IndexError: nothing was pushed.
        """
        self.set_state(_popped(self._pushed_states, "state"))

    # Parameters -------------------------------------------------------------------------------

    def save_parameters(self, path: str | Path) -> None:
        """Write parameters and buffers as a NumPy archive, by their state-dict names."""
        arrays = {name: value.cpu().numpy() for name, value in self.state_dict().items()}
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def load_parameters(self, path: str | Path) -> None:
        """Load what `save_parameters` wrote.

        Raises:
            RuntimeError: names or shapes differ from those of this layer.
        """
        with np.load(Path(path)) as file:
            self.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})

    def push_parameters(self) -> None:
        """Push a copy of parameters and buffers for `pop_parameters`."""
        self._pushed_parameters.append(
            {name: value.clone() for name, value in self.state_dict().items()}
        )

    def pop_parameters(self) -> None:
        """Restore the parameters that were pushed last.

        Raises:
            IndexError: nothing was pushed.
        """
        kept = _popped(self._pushed_parameters, "parameters")
        for name, value in self.state_dict(keep_vars=True).items():
            value.data = kept[name]  # may differ in shape from the present one

    def push_all(self) -> None:
        """Call `push_state` and `push_parameters`."""
        self.push_state()
        self.push_parameters()

    def pop_all(self) -> None:
        """Call `pop_state` and `pop_parameters`."""
        self.pop_state()
        self.pop_parameters()


def _copied(value: Any, copy_tensor: Callable[[Tensor], Tensor] = torch.Tensor.clone) -> Any:
    """Return a copy that shares nothing with the original; tensors stay in their graph."""
    if isinstance(value, Tensor):
        return copy_tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item, copy_tensor) for item in value)
    if isinstance(value, dict):
        return {key: _copied(item, copy_tensor) for key, item in value.items()}
    return copy.deepcopy(value)


def _popped(stack: list[Any], what: str) -> Any:
    if not stack:
        raise IndexError(f"no {what} to restore; push first")
    return stack.pop()

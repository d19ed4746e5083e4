"""Modules that consist of other modules."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from msdtool.nn.layers.basic import Lambda


def sequential(*args: nn.Module | Callable[[Any], Any]) -> nn.Sequential:
    """Return a `torch.nn.Sequential`; functions become layers."""
    return nn.Sequential(*(m if isinstance(m, nn.Module) else Lambda(m) for m in args))


class Shortcut(nn.Module):
    """Base of layers that also receive the input of the enclosing `SequentialEx`.

    Their ``forward`` takes (output of the preceding layer, input of the `SequentialEx`).
    """


class MergeLayer(Shortcut):
    """Add the shortcut, or append its channels.

    Args:
        dense: append instead of adding.
    """

    def __init__(self, dense: bool = False) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, input: Tensor, original: Tensor) -> Tensor:
        """Return input + original [B, C, ...], or their concatenation [B, 2*C, ...]."""
        return torch.cat([input, original], 1) if self.dense else input + original

    def extra_repr(self) -> str:
        return f"dense={self.dense}"


class ProdLayer(Shortcut):
    """Multiply by the shortcut."""

    def forward(self, input: Tensor, original: Tensor) -> Tensor:
        """Return input * original; axes of size 1 are broadcast."""
        return input * original


class SequentialEx(nn.Module):
    """Modules in sequence; every `Shortcut`, such as `MergeLayer`, also receives the first input.

    Args:
        *layers: the modules.

    State-dict names: ``layers.{i}.*``.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, input: Any) -> Any:
        """Return the output of the last module."""
        output = input
        for layer in self.layers:
            output = layer(output, input) if isinstance(layer, Shortcut) else layer(output)
        return output

    def __getitem__(self, index: int | slice) -> nn.Module:
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.layers)

    def append(self, layer: nn.Module) -> nn.ModuleList:
        """Append a module; return all modules."""
        return self.layers.append(layer)

    def extend(self, layers: Iterable[nn.Module]) -> nn.ModuleList:
        """Append modules; return all modules."""
        return self.layers.extend(layers)

    def insert(self, index: int, layer: nn.Module) -> None:
        """Insert a module before index ``index``."""
        self.layers.insert(index, layer)


class Cat(nn.ModuleList):
    """Concatenate the outputs of several modules for the same input.

    Args:
        layers: the modules.
        dim: axis of concatenation; 1 is the channel axis.

    State-dict names: ``{i}.*``.
    """

    def __init__(self, layers: Iterable[nn.Module], dim: int = 1) -> None:
        super().__init__(layers)
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Return the outputs, concatenated along ``dim``."""
        return torch.cat([layer(input) for layer in self], dim=self.dim)

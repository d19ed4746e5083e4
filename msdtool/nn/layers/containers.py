"""Modules made of modules."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from msdtool.nn.layers.basic import Lambda


def sequential(*args: nn.Module | Callable[[Any], Any]) -> nn.Sequential:
    """Return a `torch.nn.Sequential`; functions become layers."""
    return nn.Sequential(*(m if isinstance(m, nn.Module) else Lambda(m) for m in args))


class Shortcut(nn.Module):
    """Base of layers that also see the input of the `SequentialEx` they are in.

    Their ``forward`` takes (what the layer before gave, that input).
    """


class MergeLayer(Shortcut):
    """Add the shortcut, or put its channels behind.

    Args:
        dense: the latter.
    """

    def __init__(self, dense: bool = False) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, input: Tensor, original: Tensor) -> Tensor:
        """Return input + original [B, C, ...], or both in turn [B, 2*C, ...]."""
        return torch.cat([input, original], 1) if self.dense else input + original

    def extra_repr(self) -> str:
        return f"dense={self.dense}"


class ProdLayer(Shortcut):
    """Multiply with the shortcut."""

    def forward(self, input: Tensor, original: Tensor) -> Tensor:
        """Return input * original; sizes of 1 spread."""
        return input * original


class SequentialEx(nn.Module):
    """Modules one after the other, of which `MergeLayer` and its kin also see the first input.

    Args:
        *layers: the modules.

    State-dict names: ``layers.{i}.*``.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, input: Any) -> Any:
        """Return what the last module gives."""
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
        """Add a module at the end; return all."""
        return self.layers.append(layer)

    def extend(self, layers: Iterable[nn.Module]) -> nn.ModuleList:
        """Add modules at the end; return all."""
        return self.layers.extend(layers)

    def insert(self, index: int, layer: nn.Module) -> None:
        """Add a module before number ``index``."""
        self.layers.insert(index, layer)


class Cat(nn.ModuleList):
    """The outputs of several modules for the same input, one after the other.

    Args:
        layers: the modules.
        dim: axis along which; 1 is that of channels.

    State-dict names: ``{i}.*``.
    """

    def __init__(self, layers: Iterable[nn.Module], dim: int = 1) -> None:
        super().__init__(layers)
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Map an input to the outputs, joined along ``dim``."""
        return torch.cat([layer(input) for layer in self], dim=self.dim)

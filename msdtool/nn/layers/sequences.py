"""Layers of images applied to sequences of images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class TimeDistributed(nn.Module):
    """Apply a module to each step of a sequence.

    All steps at once by default, as one large batch; a batch normalisation inside then takes its
    statistics over all of them.

    Args:
        module: takes one or more tensors [B, ...], gives a tensor or a tuple of them.
        low_mem: one step after the other.
        tdim: axis of time; one step after the other, too, unless it is 1.

    State-dict names: ``module.*``.
    """

    def __init__(self, module: nn.Module, low_mem: bool = False, tdim: int = 1) -> None:
        super().__init__()
        self.module = module
        self.low_mem = low_mem
        self.tdim = tdim

    def forward(self, *tensors: Tensor, **kwargs: Any) -> Any:
        """Apply the module.

        Args:
            *tensors: cut into steps, [B, T, ...] if ``tdim`` is 1.
            **kwargs: passed on whole.

        Returns:
            What the module gives, with an axis of time at ``tdim``.
        """
        if self.low_mem or self.tdim != 1:
            return self.low_mem_forward(*tensors, **kwargs)
        steps = tensors[0].shape[:2]
        output = self.module(*(tensor.flatten(0, 1) for tensor in tensors), **kwargs)
        return _for_each(lambda tensor: tensor.unflatten(0, steps), output)

    def low_mem_forward(self, *tensors: Tensor, **kwargs: Any) -> Any:
        """Apply the module to one step after the other; arguments as `forward`."""
        steps = zip(*(tensor.unbind(self.tdim) for tensor in tensors), strict=True)
        outputs = [self.module(*step, **kwargs) for step in steps]
        if isinstance(outputs[0], tuple):
            return tuple(torch.stack(parts, self.tdim) for parts in zip(*outputs, strict=True))
        return torch.stack(outputs, self.tdim)

    def extra_repr(self) -> str:
        return f"low_mem={self.low_mem}, tdim={self.tdim}"


def _for_each(function: Callable[[Tensor], Tensor], output: Any) -> Any:
    return tuple(map(function, output)) if isinstance(output, tuple) else function(output)

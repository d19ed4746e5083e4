"""Layers of images applied to sequences of images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class TimeDistributed(nn.Module):
    """Apply a module to each step of a sequence.

    By default all steps are processed at once, as one large batch; a batch normalisation in the
    module then computes its statistics over all of them.

    Args:
        module: takes one or more tensors [B, ...], returns a tensor or a tuple of tensors.
        low_mem: process one step at a time.
        tdim: time axis; unless it is 1, steps are processed one at a time as well.

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
            *tensors: split into steps, [B, T, ...] if ``tdim`` is 1.
            **kwargs: passed on unchanged.

        Returns:
            The outputs of the module, with a time axis at ``tdim``.
        """
        if self.low_mem or self.tdim != 1:
            return self.low_mem_forward(*tensors, **kwargs)
        steps = tensors[0].shape[:2]
        output = self.module(*(tensor.flatten(0, 1) for tensor in tensors), **kwargs)
        return _for_each(lambda tensor: tensor.unflatten(0, steps), output)

    def low_mem_forward(self, *tensors: Tensor, **kwargs: Any) -> Any:
        """Apply the module to one step at a time; arguments as for `forward`."""
        steps = zip(*(tensor.unbind(self.tdim) for tensor in tensors), strict=True)
        outputs = [self.module(*step, **kwargs) for step in steps]
        if isinstance(outputs[0], tuple):
            return tuple(torch.stack(parts, self.tdim) for parts in zip(*outputs, strict=True))
        return torch.stack(outputs, self.tdim)

    def extra_repr(self) -> str:
        return f"low_mem={self.low_mem}, tdim={self.tdim}"


def _for_each(function: Callable[[Tensor], Tensor], output: Any) -> Any:
    return tuple(map(function, output)) if isinstance(output, tuple) else function(output)

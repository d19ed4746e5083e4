"""Means over the pixels that a mask selects."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

Total = Callable[[Tensor], Tensor]
"""Sum over the processes that share a batch."""


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor of the dtype and device of ``like``, not to be changed."""
    return _constants(tuple(values), like.dtype, like.device)


@lru_cache(maxsize=64)
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept: to copy numbers to a GPU is to wait until it has done all that was started before."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def of_one(values: Tensor) -> Tensor:
    """Return the total for a process that does not share its batch."""
    return values


def masked_mean(values: Tensor, mask: Tensor | None, total: Total = of_one) -> Tensor:
    """Mean of ``values`` [B, C, *space] where ``mask`` [B, 1, *space] is True; 0 if nowhere."""
    if mask is None:
        return ratio(values.sum(), values.new_full((), values.numel()), total)
    weights = mask.expand_as(values).to(values.dtype)
    return ratio((values * weights).sum(), weights.sum(), total)


def ratio(above: Tensor, below: Tensor, total: Total) -> Tensor:
    """Quotient of two sums over the whole batch; 0 if the second is."""
    above, below = total(torch.stack([above, below.detach()]))
    return above / torch.where(below > 0, below, 1.0)

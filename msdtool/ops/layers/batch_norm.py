"""Batch normalisation whose statistics are those of the samples of all processes together.

Shapes: B batch, C channels, *space any number of further axes; B may differ between processes.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Statistics(NamedTuple):
    """Mean and biased variance per channel, [C] float64, of ``num_values`` values each."""

    num_values: int
    mean: Tensor
    variance: Tensor


def batch_norm(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Statistics]:
    """Bring each channel to mean 0 and variance 1 over the batches of all processes.

    ``weight * (input - mean) / sqrt(variance + eps) + bias`` (Ioffe & Szegedy, ICML 2015, alg. 1).
    Every value counts once, so with batches of different sizes the result is what one process would
    compute on all of them. The gradient of ``input`` is that of the sum of all processes' losses;
    those of ``weight`` and ``bias`` are the process' own share of it.

    Args:
        input: [B, C, *space]; a process may have B = 0.
        weight, bias: [C].
        eps: added to the variance.
        group: processes whose batches are normalised together; all of them must call this. None:
            this process alone.

    Returns:
        The normalised input, [B, C, *space], and the statistics, which have no gradient.

    Raises:
        ValueError: there is only one value per channel, whose variance is 0 whatever it is.
    """
    if group is None or dist.get_world_size(group) == 1:
        return _batch_norm_alone(input, weight, bias, eps)
    statistics = _pool(_measure(input), group)
    _check_count(statistics.num_values, input)
    output: Tensor = _PooledBatchNorm.apply(input, weight, bias, eps, statistics, group)
    return output, statistics


def _batch_norm_alone(
    input: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Statistics]:
    count = _count(input)
    _check_count(count, input)
    # With momentum 1 torch's running statistics are those of this batch, the variance unbiased.
    mean, variance = torch.zeros_like(weight), torch.zeros_like(weight)
    output = F.batch_norm(input, mean, variance, weight, bias, True, 1.0, eps)
    biased = variance.detach().double() * ((count - 1) / count)
    return output, Statistics(count, mean.detach().double(), biased)


def _check_count(count: int, input: Tensor) -> None:
    if count < 2:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input of shape "
            f"{tuple(input.shape)}"
        )


def _count(input: Tensor) -> int:
    return input.numel() // input.shape[1]


def _axes(input: Tensor) -> list[int]:
    """All axes but the channels'."""
    return [axis for axis in range(input.dim()) if axis != 1]


def _wide(values: Tensor) -> Tensor:
    """At least float32, in which sums over images are made."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _measure(input: Tensor) -> Statistics:
    count = _count(input)
    if count == 0:
        zeros = input.new_zeros(input.shape[1], dtype=torch.float64)
        return Statistics(0, zeros, zeros)
    variance, mean = torch.var_mean(_wide(input.detach()), _axes(input), correction=0)
    return Statistics(count, mean.double(), variance.double())


def _pool(own: Statistics, group: dist.ProcessGroup) -> Statistics:
    """Merge the processes' statistics without subtracting large numbers (Chan et al., 1979)."""
    count = own.mean.new_full((1,), own.num_values)
    packed = torch.cat([count, own.mean, own.variance])
    gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, packed, group)
    rows = torch.stack(gathered)
    channels = len(own.mean)
    counts, means, variances = rows.split([1, channels, channels], dim=1)
    shares = counts / counts.sum()
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean) ** 2)).sum(0)
    return Statistics(int(counts.sum()), mean, variance)


class _PooledBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        statistics: Statistics,
        group: dist.ProcessGroup,
    ) -> Tensor:
        inverse = (statistics.variance + eps).rsqrt()
        ctx.save_for_backward(input, weight, statistics.mean, inverse)
        ctx.count, ctx.group = statistics.num_values, group
        centred = _centred(input, statistics.mean)
        scaled = centred.mul_(_per_channel(inverse * weight, centred))
        return scaled.add_(_per_channel(bias, scaled)).to(input.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse = ctx.saved_tensors
        grad, centred = _wide(grad_output), _centred(input, mean)
        sum_grad = grad.sum(_axes(input)).double()
        sum_product = (grad * centred).sum(_axes(input)).double() * inverse
        totals = torch.stack([sum_grad, sum_product])
        dist.all_reduce(totals, group=ctx.group)
        grad_mean, product_mean = totals / ctx.count
        # grad - mean(grad) - normalised * mean(grad * normalised), all over the standard deviation
        grad_input = centred.mul_(_per_channel(-product_mean * inverse, centred))
        grad_input.add_(grad).sub_(_per_channel(grad_mean, grad_input))
        grad_input.mul_(_per_channel(inverse * weight, grad_input))
        return (
            grad_input.to(input.dtype),
            sum_product.to(weight.dtype),
            sum_grad.to(weight.dtype),
            None,
            None,
            None,
        )


def _centred(input: Tensor, mean: Tensor) -> Tensor:
    """``input - mean`` in a tensor of its own."""
    wide = _wide(input)
    return wide - _per_channel(mean, wide)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """[C] to [1, C, 1, ...] of the dtype of ``like``."""
    return values.to(like.dtype).reshape(1, -1, *(1,) * (like.dim() - 2))

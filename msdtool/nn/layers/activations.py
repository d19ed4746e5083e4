"""Activation functions, as functions and as modules."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Swish = nn.SiLU
Mish = nn.Mish


def sigmoid(input: Tensor, eps: float = 1e-7) -> Tensor:
    """The logistic function, clamped to [eps, 1 - eps]; its gradient is 0 where it is clamped."""
    return input.sigmoid().clamp(eps, 1 - eps)


def sigmoid_(input: Tensor, eps: float = 1e-7) -> Tensor:
    """`sigmoid` that overwrites its input."""
    return input.copy_(sigmoid(input, eps))


def sigmoid_range(x: Tensor, low: float, high: float) -> Tensor:
    """The logistic function, scaled to the range from ``low`` to ``high``."""
    return x.sigmoid() * (high - low) + low


class SigmoidRange(nn.Module):
    """`sigmoid_range` as a layer, for regression with outputs in a known range.

    Args:
        low: smallest value.
        high: largest value.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return sigmoid_range(input, self.low, self.high)

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}"


def vleaky_relu(input: Tensor, inplace: bool = True) -> Tensor:
    """Leaky ReLU of slope 0.3; overwrites its input by default."""
    return F.leaky_relu(input, 0.3, inplace)


def swish(x: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x) (Ramachandran et al., 2017, arXiv:1710.05941)."""
    return F.silu(x, inplace)


def mish(x: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)) (Misra, BMVC 2020, eq. 1)."""
    return F.mish(x, inplace)


class MishJitAutoFn(torch.autograd.Function):
    """`mish` that keeps only its input for the backward pass.

    f'(x) = t + x * sigmoid(x) * (1 - t^2) with t = tanh(softplus(x)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.mish(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        t = torch.tanh(F.softplus(x))
        return grad_y * (t + x * torch.sigmoid(x) * (1 - t * t))


class MishJit(nn.Module):
    """`mish` as a layer that keeps only its input for the backward pass."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        output: Tensor = MishJitAutoFn.apply(input)
        return output


class SwishJit(nn.Module):
    """`swish` as a layer; like torch's own, it keeps only its input for the backward pass."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return F.silu(input)

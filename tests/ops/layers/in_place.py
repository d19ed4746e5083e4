"""What the tests of in-place layers share."""

import torch
from torch import Tensor

from msdtool.nn import (
    conv2dInPlace,
    conv_relu2dInPlace,
)

CONVOLUTIONS = [conv2dInPlace, conv_relu2dInPlace]


def upstream_of(output: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(output.shape, generator=generator, dtype=torch.float64)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Relative to the largest expected value."""
    assert actual.shape == expected.shape
    scale = max(expected.abs().max().item(), 1e-30)
    assert (actual.double() - expected).abs().max().item() < tolerance * scale

"""Filters in time, and layers that combine them."""

import numpy as np
import pytest
import torch

from msdtool.nn.streaming import (
    LN,
    Conv3d,
    Delay,
    NLRectify,
    NLSquare,
    TemporalLowPassFilterRecursive,
    TimePadding,
)
from tests.nn.streaming.test_convolution import random


def test_a_delay_gives_earlier_frames():
    x = random(1, 1, 6, 1, 1)
    expected = torch.cat([torch.zeros(1, 1, 3, 1, 1), x[:, :, :3]], 2)
    assert torch.equal(Delay(3)(x), expected) and torch.equal(Delay(3, 5)(x), expected)
    assert torch.equal(Delay()(x), x)
    with pytest.raises(ValueError, match="delay is 3; expected 0 to length, which is 2"):
        Delay(3, 2)
    with pytest.raises(ValueError, match="length is -1; expected 0 or more"):
        TimePadding(-1)


def test_the_low_pass_follows_its_recursion_and_keeps_a_constant():
    x, tau = random(1, 1, 50, 1, 1), 0.01
    e, y, expected = np.exp(-0.1), 0.0, []
    for value in x.flatten().tolist():
        y = value * (1 + e) + y * e
        expected.append(y / 20)
    layer = TemporalLowPassFilterRecursive(tau).double()
    found = layer(x).detach().flatten().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    layer.clear_state()
    assert layer(torch.ones(1, 1, 500, 1, 1))[0, 0, -1].item() == pytest.approx(1, rel=2e-3)


def test_rectifiers_and_squares():
    x = torch.tensor([-2.0, 3.0])
    assert NLRectify()(x).flatten().tolist() == [0, 3]
    assert NLSquare()(x).flatten().tolist() == [4, 9]
    layer = LN(1, 1, 1, bias=False)
    layer.set_weight(-1.0)
    assert layer(x).flatten().tolist() == [2, 0]


@pytest.mark.parametrize("make", [
    lambda: LN((4, 1, 2)),
    lambda: LN([4, 1, 2]),
    lambda: LN(kernel_dim=(4, 1, 2), bias=False),
    lambda: LN((4, 1, 2), True),
])  # fmt: skip
def test_ln_takes_the_taps_alone(make):
    layer, x = make(), random(1, 1, 6, 3, 4)
    reference = Conv3d(1, 1, (4, 1, 2), bias=layer.bias is not None)
    assert layer.kernel_size == (4, 1, 2)
    with torch.no_grad():
        for parameter, other in zip(layer.parameters(), reference.parameters(), strict=True):
            parameter.copy_(random(*parameter.shape))
            other.copy_(parameter)
    layer, reference = layer.to(x), reference.to(x)
    assert torch.equal(layer(x), reference(x).clamp(min=0))


@pytest.mark.parametrize("wrong", [(4, 1, 2), 0, 1.5])
def test_channels_are_numbers(wrong):
    with pytest.raises(ValueError, match=r"in_channels is .*; expected a positive number"):
        Conv3d(wrong)
    with pytest.raises(ValueError, match=r"out_channels is .*; expected a positive number"):
        Conv3d(1, wrong)

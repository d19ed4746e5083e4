import pytest
import torch
from torch import nn

from msdtool.nn import layers


def test_concat_pool_gives_maxima_then_means():
    x = torch.randn(10, 5, 4, 4)
    output = layers.AdaptiveConcatPool2d()(x)
    assert output.shape == (10, 10, 1, 1)
    torch.testing.assert_close(output[:, :5], x.amax((2, 3), keepdim=True))
    torch.testing.assert_close(output[:, 5:], x.mean((2, 3), keepdim=True))
    assert layers.AdaptiveConcatPool2d(2)(x).shape == (10, 10, 2, 2)
    assert layers.AdaptiveConcatPool1d(3)(x[..., 0]).shape == (10, 10, 3)


@pytest.mark.parametrize(("kind", "channels"), [("Avg", 5), ("Max", 5), ("Cat", 10)])
def test_pool_flatten_gives_one_number_per_channel(kind, channels):
    x = torch.randn(10, 5, 4, 4)
    output = layers.PoolFlatten(kind)(x)
    assert output.shape == (10, channels)
    expected = x.mean((2, 3)) if kind == "Avg" else x.amax((2, 3))
    torch.testing.assert_close(output[:, :5], expected)
    assert layers.PoolType(kind) == kind


def test_unknown_pool_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="pool_type is 'Mean'; allowed: Avg, Max, Cat"):
        layers.adaptive_pool("Mean")


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("make", [layers.MaxPool, layers.AvgPool])
def test_ceil_mode_keeps_the_last_pixels_of_odd_sizes(make, ndim):
    x = torch.zeros(1, 1, *(5,) * ndim)
    assert make(2, ndim=ndim)(x).shape[2:] == (2,) * ndim
    assert make(2, ndim=ndim, ceil_mode=True)(x).shape[2:] == (3,) * ndim


def test_pools_are_those_of_torch():
    assert isinstance(layers.AdaptiveAvgPool(2, ndim=3), nn.AdaptiveAvgPool3d)
    pool = layers.MaxPool(3, stride=2, padding=1)
    assert (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 1)
    with pytest.raises(ValueError, match="ndim is 0; allowed: 1, 2, 3"):
        layers.AdaptiveAvgPool(1, ndim=0)

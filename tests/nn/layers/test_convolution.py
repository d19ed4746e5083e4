import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msdtool.nn import layers
from msdtool.nn.layers import NormType


def test_conv_layer_is_convolution_norm_activation():
    layer = layers.ConvLayer(16, 32)
    assert [type(child) for child in layer] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert (layer[1].weight == 1).all()
    assert layer[0].padding == (1, 1)
    assert layer[0].bias is None
    x = torch.randn(4, 16, 8, 8)
    assert layer(x).shape == (4, 32, 8, 8)
    assert layers.ConvLayer(16, 32, stride=2)(x).shape == (4, 32, 4, 4)
    assert layers.ConvLayer(16, 32, padding=0)(x).shape == (4, 32, 6, 6)


@pytest.mark.parametrize(
    ("norm", "has_bias"),
    [
        (None, True),
        (NormType.Spectral, True),
        (NormType.Weight, True),
        (NormType.Batch, False),
        (NormType.BatchZero, False),
        (NormType.Instance, False),
        (NormType.InstanceZero, False),
    ],
)
def test_bias_is_there_unless_a_norm_has_one(norm, has_bias):
    assert (layers.ConvLayer(4, 6, norm_type=norm)[0].bias is not None) == has_bias
    assert layers.ConvLayer(4, 6, norm_type=norm, bias=True)[0].bias is not None


def test_conv_layer_takes_other_axes_and_activations():
    assert isinstance(layers.ConvLayer(4, 6, ndim=3)[0], nn.Conv3d)
    transposed = layers.ConvLayer(4, 6, ndim=1, transpose=True)[0]
    assert isinstance(transposed, nn.ConvTranspose1d)
    assert transposed.padding == (0,)
    assert len(layers.ConvLayer(4, 6, act_cls=None)) == 2
    leaky = layers.ConvLayer(4, 6, act_cls=partial(nn.LeakyReLU, negative_slope=0.1))
    assert leaky[2].negative_slope == 0.1
    order = layers.ConvLayer(4, 6, bn_1st=False, xtra=nn.Dropout())
    assert [type(child) for child in list(order)[1:]] == [nn.ReLU, nn.BatchNorm2d, nn.Dropout]
    with pytest.raises(ValueError, match="ndim is 4; allowed: 1, 2, 3"):
        layers.ConvLayer(4, 6, ndim=4)


@settings(deadline=None, max_examples=30)
@given(
    ndim=st.integers(1, 3),
    data=st.data(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_default_padding_keeps_the_size_for_odd_kernels(ndim, data, dtype):
    each = st.tuples(*[st.sampled_from([1, 3, 5])] * ndim)
    ks = data.draw(st.one_of(st.sampled_from([1, 3, 5]), each))
    dilation = data.draw(st.one_of(st.integers(1, 3), st.tuples(*[st.integers(1, 3)] * ndim)))
    layer = layers.ConvLayer(2, 3, ks, ndim=ndim, dilation=dilation, dtype=dtype)
    x = torch.randn(2, 2, *range(7, 7 + ndim), dtype=dtype)
    assert layer(x).shape == (2, 3, *x.shape[2:])


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", [None, NormType.Weight, NormType.Spectral])
def test_upsampling_starts_with_constant_blocks(scale, norm):
    layer = layers.PixelShuffle_ICNR(5, 3, scale=scale, norm_type=norm)
    x = torch.randn(2, 5, 4, 6)
    y = layer(x)
    assert y.shape == (2, 3, 4 * scale, 6 * scale)
    assert (y > 0).any()
    first = y[..., ::scale, ::scale]
    blocks = first.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    torch.testing.assert_close(y, blocks)


def test_weight_norm_starts_at_the_length_of_each_filter():
    convolution = layers.PixelShuffle_ICNR(3)[0][0]
    parts = convolution.parametrizations.weight
    length = parts.original1.flatten(1).norm(dim=1)
    torch.testing.assert_close(parts.original0.flatten(), length)


def test_blur_averages_with_the_pixels_above_and_left():
    layer = layers.PixelShuffle_ICNR(1, blur=True, norm_type=None, act_cls=None)
    sharp = nn.Sequential(layer[0], layer[1])
    x = torch.randn(1, 1, 3, 4)
    y, blurred = sharp(x)[0, 0], layer(x)[0, 0]
    assert blurred.shape == y.shape
    torch.testing.assert_close(blurred[3, 2], y[2:4, 1:3].mean())
    torch.testing.assert_close(blurred[0, 0], y[0, 0])


@pytest.mark.parametrize("norm", [NormType.Weight, NormType.Spectral])
def test_normalised_kernels_can_be_copied(norm):
    layer = layers.ConvLayer(2, 3, norm_type=norm).eval()
    x = torch.randn(1, 2, 5, 5)
    layer(x)
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))


def test_simple_cnn_has_no_norm_on_its_last_convolution():
    cnn = layers.SimpleCNN([8, 16, 32])
    assert [(m[0].in_channels, m[0].out_channels) for m in list(cnn)[:2]] == [(8, 16), (16, 32)]
    assert [type(m) for m in cnn[1]] == [nn.Conv2d, nn.ReLU]
    assert cnn(torch.randn(3, 8, 9, 9)).shape == (3, 32)
    kernels = layers.SimpleCNN([8, 16, 32], kernel_szs=[1, 3])
    assert [m[0].kernel_size for m in list(kernels)[:2]] == [(1, 1), (3, 3)]
    strides = layers.SimpleCNN([8, 16, 32], strides=[1, 2])
    assert [m[0].stride for m in list(strides)[:2]] == [(1, 1), (2, 2)]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in layers.SimpleCNN([2, 3], bn=False))
    with pytest.raises(ValueError, match="strides has 1 entries; 3 filters need 2"):
        layers.SimpleCNN([8, 16, 32], strides=[1])

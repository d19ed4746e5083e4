import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from msdtool.nn import layers


def test_init_default_fills_weight_and_bias():
    layer = layers.init_default(nn.Linear(4, 3), nn.init.ones_)
    assert (layer.weight == 1).all()
    assert (layer.bias == 0).all()
    assert isinstance(layers.init_default(nn.ReLU()), nn.ReLU)


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.LeakyReLU(0.1), layers.MishJit(), nn.SiLU(), F.relu, layers.swish]
)
def test_rectifiers_get_the_uniform_values_of_kaiming(activation):
    layer = nn.Conv2d(8, 16, 3)
    layers.init_linear(layer, activation)
    bound = math.sqrt(6 / (8 * 9))
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert layer.bias.std() < 0.02
    assert (layer.bias != 0).any()


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh(), torch.sigmoid])
def test_sigmoids_get_the_uniform_values_of_xavier(activation):
    layer = nn.Linear(30, 50)
    layers.init_linear(layer, activation, bias_std=0)
    bound = math.sqrt(6 / 80)
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert (layer.bias == 0).all()


def test_other_layers_keep_the_values_of_torch():
    layer = nn.Linear(4, 3)
    before = layer.weight.clone(), layer.bias.clone()
    layers.init_linear(layer, None, bias_std=None)
    torch.testing.assert_close((layer.weight, layer.bias), before)
    layers.init_linear(layer, nn.ReLU(), init=nn.init.ones_)
    assert (layer.weight == 1).all()


def test_unknown_init_is_refused():
    with pytest.raises(ValueError, match="init is 'kaiming'; allowed: 'auto'"):
        layers.init_linear(nn.Linear(2, 2), init="kaiming")


def test_truncated_normal_values_stay_within_two_sigma():
    torch.manual_seed(0)
    x = layers.trunc_normal_(torch.empty(100_000), mean=3, std=0.5)
    assert (x - 3).abs().max() < 1.0
    assert abs(x.mean() - 3) < 0.01
    # The standard deviation of a normal number modulo 2, by the density folded onto (-2, 2).
    assert abs(x.std() / 0.5 - 0.867) < 0.01
    weight = layers.Embedding(100, 300, 0.02).weight
    assert weight.abs().max() < 0.04


@settings(deadline=None, max_examples=20)
@given(
    count=st.integers(1, 4),
    c_in=st.integers(1, 4),
    scale=st.integers(1, 4),
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 1, 3)]),
)
def test_icnr_makes_the_filters_of_a_block_equal(count, c_in, scale, kernel):
    weight = layers.icnr_init(torch.empty(count * scale**2, c_in, *kernel), scale)
    blocks = weight.unflatten(0, (count, scale**2))
    assert (blocks == blocks[:, :1]).all()
    assert len(blocks[:, 0].flatten(1).unique(dim=0)) == count


def test_icnr_refuses_filters_that_fill_no_block():
    with pytest.raises(ValueError, match=r"x has 6 filters.*multiple of 4.*scale 2"):
        layers.icnr_init(torch.empty(6, 1, 1, 1), 2)

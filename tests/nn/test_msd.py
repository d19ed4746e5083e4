import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool import nn
from msdtool.nn import MSDModule, MSDModule2d, init_convolution_weights, units_in_front


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("depth", "c_in", "c_out", "ndim", "expected"),
    [
        (100, 3, 11, 2, 48_494),
        (200, 3, 11, 2, 186_944),
        (100, 1, 1, 2, 45_652),
        (50, 1, 1, 2, 11_577),
        (50, 1, 1, 3, 34_527),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(
    depth, c_in, c_out, ndim, expected
):
    assert count(MSDModule(c_in, c_out, depth, 1, ndim=ndim)) == expected


@settings(deadline=None, max_examples=20)
@given(
    c_in=st.integers(1, 4),
    c_out=st.integers(1, 4),
    depth=st.integers(1, 6),
    width=st.integers(1, 3),
    ndim=st.sampled_from([2, 3]),
)
def test_state_dict_has_the_documented_names_and_shapes(c_in, c_out, depth, width, ndim):
    module = MSDModule(c_in, c_out, depth, width, [1, 2], ndim=ndim)
    expected = {
        "msd_block.bias": (depth * width,),
        "final_layer.linear.weight": (c_out, c_in + width * depth, 1),
        "final_layer.linear.bias": (c_out,),
    }
    for i in range(depth):
        expected[f"msd_block.weight{i}"] = (width, c_in + width * i, *[3] * ndim)
    assert {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()} == expected


@settings(deadline=None, max_examples=20)
@given(
    batch=st.integers(1, 3),
    c_in=st.integers(1, 3),
    c_out=st.integers(1, 3),
    height=st.integers(4, 19),
    width=st.integers(4, 19),
    padding=st.sampled_from(["symmetric", "reflect", "zeros"]),
)
def test_output_has_the_size_of_the_input(batch, c_in, c_out, height, width, padding):
    module = MSDModule(c_in, c_out, 3, 2, [1, 3], padding=padding)
    assert module(torch.rand(batch, c_in, height, width)).shape == (batch, c_out, height, width)


def test_volumes_give_volumes():
    assert MSDModule(1, 2, 3, 1, [1, 2], ndim=3)(torch.rand(1, 1, 5, 6, 7)).shape == (1, 2, 5, 6, 7)


def test_msdmodule2d_is_an_msdmodule_of_images():
    torch.manual_seed(0)
    original = MSDModule2d(1, 2, 3, 1, [1, 2])
    torch.manual_seed(0)
    general = MSDModule(1, 2, 3, 1, [1, 2], ndim=2)
    x = torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(original.msd_block(x), general.msd_block(x), rtol=0, atol=0)


def test_units_in_front_counts_input_and_earlier_layers():
    assert [units_in_front(3, 2, layer) for layer in range(4)] == [3, 5, 7, 9]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("c_in", "c_out", "width", "depth"), [(1, 1, 1, 50), (3, 200, 4, 10)])
def test_hidden_weights_have_the_standard_deviation_of_the_paper(ndim, c_in, c_out, width, depth):
    weight = torch.full((50, 40, *[3] * ndim), torch.nan)
    torch.manual_seed(0)
    init_convolution_weights(weight, c_in, c_out, width, depth)
    expected = np.sqrt(2 / (3**ndim * (c_in + width * (depth - 1)) + c_out))
    # 18,000 draws or more: the spread is known to 0.5 %, the mean to 0.75 % of it.
    assert weight.std().item() == pytest.approx(expected, rel=0.03)
    assert abs(weight.mean().item()) < 0.04 * expected


def test_a_module_draws_weights_for_its_own_sizes():
    torch.manual_seed(0)
    module = MSDModule(2, 200, 30, 2)
    weights = torch.cat([weight.flatten() for weight in module.msd_block.weights])
    assert weights.std().item() == pytest.approx(np.sqrt(2 / (9 * (2 + 2 * 29) + 200)), rel=0.04)
    assert not module.msd_block.bias.any()


def test_dilations_repeat_and_may_be_more_than_layers():
    assert MSDModule(1, 1, 5, 1, [1, 2]).dilations == [1, 2, 1, 2, 1]
    assert MSDModule(1, 1, 2, 1).dilations == [1, 2]


def test_the_final_layer_starts_at_zero_and_is_linear_in_all_channels():
    layer = nn.MSDFinalLayer(4, 2)
    x = torch.rand(2, 4, 5, 6)
    assert not layer(x).any()
    weight, bias = torch.rand(2, 4), torch.rand(2)
    layer.linear.weight.data = weight[..., None]
    layer.linear.bias.data = bias
    expected = np.einsum("oc,bchw->bohw", weight, x) + bias.numpy()[:, None, None]
    np.testing.assert_allclose(layer(x).detach(), expected, rtol=1e-5)


def test_every_parameter_of_a_network_learns():
    torch.manual_seed(0)
    module = MSDModule(1, 1, 3, 1, [1, 2])
    torch.nn.init.normal_(module.final_layer.linear.weight)
    torch.nn.init.constant_(module.msd_block.bias, 0.5)
    module(torch.rand(1, 1, 12, 12)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())


def test_a_dilation_larger_than_the_image_names_both():
    with pytest.raises(ValueError, match="dilation 9 is too large for an image of size 8"):
        MSDModule(1, 1, 1, 1, [9])(torch.rand(1, 1, 8, 12))


def test_the_block_of_volumes_is_public():
    block = nn.MSDBlock3d(2, [1, 2], width=3)
    x = torch.rand(1, 2, 4, 5, 6)
    output = block(x)
    assert output.shape == (1, 2 + 2 * 3, 4, 5, 6)
    assert torch.equal(output[:, :2], x)

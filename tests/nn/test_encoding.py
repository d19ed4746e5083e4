import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msdtool.nn.encoding import (
    ContextEncoding,
    Encoding,
    GramMatrix,
    Inspiration,
    UpsampleConv2d,
    aggregate,
    scaled_l2,
)
from tests.golden import Case


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def encoding_formula(x, codewords, scale):
    """The definition, with the [B, N, K, D] residuals."""
    residuals = x.flatten(2).mT.unsqueeze(2) - codewords
    assignments = (scale * (residuals**2).sum(-1)).softmax(-1)
    return (assignments.unsqueeze(-1) * residuals).sum(1)


# The original's numbers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer_class"),
    [
        ("Encoding_3d", Encoding),
        ("Encoding_4d", Encoding),
        ("GramMatrix", GramMatrix),
        ("UpsampleConv2d_x1_nobias", UpsampleConv2d),
        ("UpsampleConv2d_x2", UpsampleConv2d),
    ],
)
def test_values_and_gradients_are_the_originals(name, layer_class):
    case = Case("encoding", name)
    layer = layer_class(*case.args, **case.kwargs).double()
    layer.load_state_dict(case.state())
    input = case["in.0"].requires_grad_()
    output = layer(input)
    case.assert_close(output, "out.0")
    output.backward(case["gy.0"])
    case.check_gradients(layer, input)


def test_inspiration_and_its_target_get_the_originals_gradients():
    case = Case("encoding", "Inspiration_B1")
    layer = Inspiration(*case.args).double()
    layer.load_state_dict(case.state())
    input, target = case["in.0"].requires_grad_(), case["target.G"].requires_grad_()
    layer.setTarget(target)
    output = layer(input)
    case.assert_close(output, "out.0")
    output.backward(case["gy.0"])
    case.check_gradients(layer, input)
    case.assert_close(target.grad, "grad.target.G")


def test_aggregating_gives_the_originals_numbers():
    case = Case("encoding", "aggregate")
    inputs = [case[f"in.{number}"].requires_grad_() for number in range(3)]
    output = aggregate(*inputs)
    case.assert_close(output, "out.0")
    output.backward(case["gy.0"])
    for number, tensor in enumerate(inputs):
        case.assert_close(tensor.grad, f"grad.in.{number}")


# Encoding -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(
    B=st.integers(1, 3),
    D=st.integers(1, 5),
    K=st.integers(1, 5),
    space=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 100),
)
def test_encoding_follows_its_definition_in_any_number_of_axes(B, D, K, space, seed):  # noqa: N803
    torch.manual_seed(seed)
    layer = Encoding(D, K).double()
    x = random(B, D, *space, seed=seed)
    assert layer(x).shape == (B, K, D)
    expected = encoding_formula(x, layer.codewords, layer.scale)
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


def test_distances_are_scaled_squares():
    x, codewords, scale = random(2, 7, 3), random(4, 3, seed=1), random(4, seed=2)
    expected = scale * torch.cdist(x, codewords.expand(2, -1, -1)) ** 2
    torch.testing.assert_close(scaled_l2(x, codewords, scale), expected, rtol=1e-9, atol=1e-9)


def test_gradients_of_encoding_are_exact_even_where_a_scale_is_zero():
    layer = Encoding(2, 3).double()
    with torch.no_grad():
        layer.scale[1] = 0

    def run(x, codewords, scale):
        parameters = {"codewords": codewords, "scale": scale}
        return torch.func.functional_call(layer, parameters, (x,))

    inputs = [random(2, 2, 4), layer.codewords.detach(), layer.scale.detach()]
    assert torch.autograd.gradcheck(run, [tensor.requires_grad_() for tensor in inputs])


def test_a_common_offset_of_features_and_codewords_costs_no_digits():
    torch.manual_seed(0)
    layer, x = Encoding(4, 8), torch.randn(1, 4, 50)
    expected = layer(x)
    with torch.no_grad():
        layer.codewords += 2.0**12
    # The offset itself rounds features and codewords to 2^-12.
    torch.testing.assert_close(layer(x + 2.0**12), expected, rtol=0, atol=50 * 2.0**-11)


def test_encoding_makes_no_tensor_of_all_residuals():
    batch, channels, codes, pixels = 2, 16, 8, 100
    layer = Encoding(channels, codes)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        layer(torch.randn(batch, channels, pixels))
    assert largest == batch * pixels * max(channels, codes)


def test_codewords_and_scales_are_drawn_as_in_the_paper():
    torch.manual_seed(0)
    layer = Encoding(50, 40)
    bound = 2000**-0.5
    assert 0.9 * bound < layer.codewords.abs().max() <= bound
    assert -1 <= layer.scale.min() < -0.8 and -0.2 < layer.scale.max() <= 0
    assert repr(layer) == "Encoding(N x 50=>40x50)"


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 5)])
def test_encoding_names_an_input_that_does_not_fit(shape):
    with pytest.raises(ValueError, match=r"input has shape .* expected \[B, 3, \*space\]"):
        Encoding(3, 2)(torch.ones(shape))


# The others -----------------------------------------------------------------------------------


def test_context_gates_every_channel_by_a_factor_of_the_whole_image():
    torch.manual_seed(0)
    layer, x = ContextEncoding(3, codes=4).double(), random(2, 3, 5, 6)
    factors = layer(x) / x
    flat = factors.flatten(2)
    torch.testing.assert_close(flat, flat[:, :, :1].expand_as(flat))
    assert factors.min() > 1 and factors.max() < 2
    layer(x).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_inspiration_gives_each_image_its_target():
    layer, x, targets = Inspiration(3, 2).double(), random(2, 3, 4, 5), random(2, 3, 3, seed=1)
    layer.setTarget(targets)
    expected = torch.stack(
        [(layer.weight[0] @ targets[b]).T @ x[b].flatten(1) for b in range(2)]
    ).view_as(x)
    torch.testing.assert_close(layer(x), expected)
    assert list(layer.state_dict()) == ["weight"]
    assert layer.weight.min() >= 0 and layer.weight.max() <= 0.02


def test_inspiration_says_what_is_missing_or_does_not_fit():
    layer = Inspiration(3, 2)
    with pytest.raises(RuntimeError, match="no target; call setTarget"):
        layer(torch.ones(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"target has shape \(1, 3, 3\); expected \(2, 3, 3\)"):
        layer.setTarget(torch.ones(1, 3, 3))
    layer.setTarget(torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="got 3 images for 2 targets; expected 2 images"):
        layer(torch.ones(3, 3, 4, 4))
    with pytest.raises(ValueError, match=r"expected \[B, 3, \*space\]"):
        layer(torch.ones(2, 4, 4, 4))


def test_a_gram_matrix_of_half_precision_does_not_overflow():
    image = torch.full((1, 2, 200, 200), 4.0, dtype=torch.float16)
    assert torch.equal(GramMatrix()(image), torch.full((1, 2, 2), 8.0, dtype=torch.float16))


def test_a_gram_matrix_takes_volumes_and_refuses_less_than_images():
    volume = random(2, 3, 2, 4, 5)
    expected = torch.einsum("bcdhw,bkdhw->bck", volume, volume) / (3 * 2 * 4 * 5)
    torch.testing.assert_close(GramMatrix()(volume), expected)
    with pytest.raises(ValueError, match=r"expected \[B, C, \(D,\) H, W\]"):
        GramMatrix()(torch.ones(2, 3, 4))


@settings(deadline=None, max_examples=20)
@given(
    scale=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
)
def test_upsampling_arranges_one_convolution_per_position_of_the_patch(
    scale, kernel, stride, padding, dilation, groups
):
    layer = UpsampleConv2d(
        4, 2, kernel, stride, padding, dilation, groups, scale_factor=scale
    ).double()
    x = random(2, 4, 7, 8)
    output = layer(x)
    for row in range(scale):
        for column in range(scale):
            channels = torch.arange(2) * scale**2 + row * scale + column
            expected = nn.functional.conv2d(
                x, layer.weight, layer.bias, stride, padding, dilation, groups
            )[:, channels]
            torch.testing.assert_close(output[:, :, row::scale, column::scale], expected)
    sides = zip(x.shape[2:], kernel, strict=True)
    expected_shape = [
        scale * ((side + 2 * padding - dilation * (k - 1) - 1) // stride + 1) for side, k in sides
    ]
    assert list(output.shape[2:]) == expected_shape


def test_upsampling_draws_its_weights_from_the_bound_of_all_input_channels():
    torch.manual_seed(0)
    layer = UpsampleConv2d(8, 8, 3, groups=4, scale_factor=2)
    bound = 72**-0.5
    for parameter in layer.parameters():
        assert 0.9 * bound < parameter.abs().max() <= bound
    assert "scale_factor=2" in repr(layer)


@pytest.mark.parametrize(("channels", "message"), [((4, 3), "out_channels"), ((3, 4), "in_chan")])
def test_upsampling_refuses_channels_that_no_groups_divide(channels, message):
    with pytest.raises(ValueError, match=f"{message}.* divisible by groups"):
        UpsampleConv2d(*channels, 3, groups=2, scale_factor=2)

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.nn.streaming import Conv1d, Conv2d, Conv3d, MyMemoryConv


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(layer, seed=0):
    """Double precision and weights that are not zero."""
    layer = layer.double()
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed + number))
    return layer


PAD_MODES = {"replicate": "edge", "reflect": "reflect", "zeros": "constant"}


def formula(x, kernel, dilation=(1, 1, 1), initial="first_frame", mode="replicate"):
    """Causal in time, centred in space, from NumPy's padding and one shifted array per tap."""
    taps = kernel.shape[2:]
    sides = [((k // 2) * d, (k - k // 2 - 1) * d) for k, d in zip(taps, dilation, strict=True)]
    past = ((taps[0] - 1) * dilation[0], 0)
    x = np.pad(x, ((0, 0), (0, 0), (0, 0), *sides[1:]), PAD_MODES[mode])
    x = np.pad(
        x,
        [(0, 0)] * 2 + [past] + [(0, 0)] * 2,
        PAD_MODES["replicate" if initial == "first_frame" else "zeros"],
    )
    size = [x.shape[2 + a] - (taps[a] - 1) * dilation[a] for a in range(3)]
    result = 0
    for tap in itertools.product(*map(range, taps)):
        window = tuple(slice(i * d, i * d + s) for i, d, s in zip(tap, dilation, size, strict=True))
        result = result + np.einsum("oc,bctxy->botxy", kernel[(..., *tap)], x[(..., *window)])
    return result


@st.composite
def cases(draw):
    """Arguments of a Conv3d, a series for it, and where it is cut."""
    padding_mode = draw(st.sampled_from(list(PAD_MODES)))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 3))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)))
    channels = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    # Reflecting needs frames larger than the padding.
    space = [draw(st.integers(7 if padding_mode == "reflect" else 1, 8)) for _ in range(2)]
    shape = (draw(st.integers(1, 2)), channels[0], draw(st.integers(1, 9)), *space)
    keywords = {
        "bias": False,
        "dilation": dilation,
        "padding_mode": padding_mode,
        "initial": draw(st.sampled_from(["first_frame", "zeros"])),
    }
    return channels, kernel, keywords, shape, draw(st.integers(1, 10))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_the_result_is_the_formulas_however_the_series_is_cut(case):
    channels, kernel, keywords, shape, dt = case
    layer, x = filled(Conv3d(*channels, kernel, **keywords)), random(*shape, seed=3)
    expected = formula(
        x.numpy(),
        layer.weight.detach().numpy(),
        keywords["dilation"],
        keywords["initial"],
        keywords["padding_mode"],
    )
    for length in (None, dt):
        layer.clear_state()
        found = layer.run(x, dt=length)[0].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(
    T=st.integers(1, 9), dt=st.integers(1, 10), taps=st.integers(1, 4), dilation=st.integers(1, 3)
)
def test_without_time_padding_the_first_frames_of_the_series_are_missing(T, dt, taps, dilation):  # noqa: N803
    arguments = (1, 2, (taps, 3, 2), True, 1, (dilation, 1, 1))
    padded = filled(Conv3d(*arguments))
    layer = filled(Conv3d(*arguments, time_pad=False))
    x = random(1, 1, T, 4, 5)
    expected = padded(x)[:, :, dilation * (taps - 1) :]
    assert torch.allclose(layer.run(x, dt=dt)[0], expected, rtol=0, atol=1e-12)


def test_without_padding_in_space_the_result_is_smaller():
    layer, x = filled(Conv3d(1, 1, (2, 3, 2), autopad=False)), random(1, 1, 4, 5, 6)
    padded = filled(Conv3d(1, 1, (2, 3, 2)))
    assert layer(x).shape == (1, 1, 4, 3, 5)
    torch.testing.assert_close(layer(x[:, :, :1]).shape, torch.Size((1, 1, 1, 3, 5)))
    layer.clear_state()
    torch.testing.assert_close(layer(x), padded(x)[..., 1:-1, 1:])


def test_a_kernel_over_time_works_on_each_pixel_and_one_over_space_on_each_frame():
    x = random(2, 2, 6, 4, 5)
    over_time, over_space = filled(Conv1d(2, 3, 4)), filled(Conv2d(2, 3, (3, 2)), seed=5)
    for layer, shape in ((over_time, (4, 1, 1)), (over_space, (1, 3, 2))):
        full = Conv3d(2, 3, shape).double()
        full.load_state_dict({
            "weight": layer.weight.reshape(3, 2, *shape), "bias": layer.bias
        })  # fmt: skip
        torch.testing.assert_close(layer.run(x, dt=4)[0], full(x))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (2, 4, 5)])
def test_identity_passes_channels_on_and_is_not_stuck(kernel, groups):
    layer = Conv3d(2, 4, kernel, groups=groups, weights="identity").double()
    x = random(1, 2, 5, 6, 7)
    source = [0, 1, 0, 1] if groups == 1 else [0, 0, 1, 1]
    torch.testing.assert_close(layer.run(x, dt=2)[0], x[:, source])


def test_default_weights_are_drawn_like_torchs():
    torch.manual_seed(0)
    layer = MyMemoryConv(3, 50, (3, 3, 3))
    bound = 81**-0.5
    assert 0.99 * bound < layer.weight.abs().max() <= bound
    assert layer.bias is None and layer.filter_length == 2
    assert layer.kernel_padding == (1, 1, 1, 1, 0, 0)


def test_gradients_are_exact_where_no_frame_is_remembered():
    layer = filled(Conv3d(2, 2, (3, 3, 2), initial="zeros", groups=2))
    x = random(1, 2, 4, 3, 3).requires_grad_()

    def run(x, *parameters):
        layer.clear_state()
        names = dict(zip(("weight", "bias"), parameters, strict=True))
        return torch.func.functional_call(layer, names, (x,))

    assert torch.autograd.gradcheck(run, [x, *layer.parameters()])


# set_weight -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "full"),
    [((3,), (3, 1, 1)), ((2, 3), (1, 2, 3)), ((2, 3, 4), (2, 3, 4))],
)
def test_a_kernel_of_any_number_of_axes_makes_the_layer_single(shape, full):
    layer, kernel = Conv3d(2, 3, (1, 1, 1)).double(), random(*shape)
    layer.set_weight(kernel)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (1, 1, full)
    assert layer.bias.shape == (1,)
    torch.testing.assert_close(layer.weight.detach().flip(2, 3, 4).reshape(shape), kernel)
    layer.set_weight(kernel, flip=False)
    torch.testing.assert_close(layer.weight.detach().reshape(shape), kernel)


def test_a_number_fills_the_kernel_and_normalising_makes_its_sum_1():
    layer = Conv3d(2, 3, (2, 3, 3))
    layer.set_weight(2.5)
    assert (layer.weight == 2.5).all() and layer.weight.shape == (3, 2, 2, 3, 3)
    layer.set_weight(2, normalize=True)
    torch.testing.assert_close(layer.weight.sum().item(), 1.0)


def test_channels_can_be_kept_or_given():
    layer, kernel = Conv3d(2, 3, (1, 1, 1)).double(), random(4)
    layer.set_weight(kernel.tolist(), preserve_channels=True)
    assert layer.weight.shape == (3, 2, 4, 1, 1)
    torch.testing.assert_close(layer.weight.detach()[2, 1, :, 0, 0].flip(0).float(), kernel.float())
    full = random(4, 5, 2, 2, 2)
    layer.set_weight(full)
    torch.testing.assert_close(layer.weight.detach(), full.flip(2, 3, 4))
    assert layer.bias.shape == (4,)


def test_a_longer_kernel_starts_a_new_series():
    layer = Conv3d(1, 1, (2, 1, 1), bias=False)
    layer(torch.ones(1, 1, 3, 2, 2))
    layer.set_weight([1.0, 1.0, 1.0])
    torch.testing.assert_close(layer(torch.ones(1, 1, 1, 2, 2)), torch.full((1, 1, 1, 2, 2), 3.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Conv3d().set_weight(np.ones((2, 2, 2, 2))), r"shape \(2, 2, 2, 2\); expected 1 a"),
        (lambda: Conv1d().set_weight(np.ones((2, 2))), r"\(1, 2, 2\) taps .* does not fit Conv1d"),
        (lambda: Conv2d().set_weight(np.ones(3)), r"\(3, 1, 1\) taps .* does not fit Conv2d"),
        (lambda: Conv3d(2, 2, groups=2).set_weight(np.ones(3)), "pass preserve_channels=True"),
        (lambda: Conv3d(2, 3, groups=2), "must both be divisible by groups 2"),
        (lambda: Conv3d(kernel_size=(1, 1)), r"kernel_size is \(1, 1\); expected a positive numb"),
        (lambda: Conv3d(kernel_size=0), "kernel_size is 0; expected a positive number, or 3"),
        (lambda: Conv3d(stride=2), "the stride in time is 2; expected 1"),
        (lambda: Conv3d(weights="ones"), "weights is 'ones'; allowed: zeros, identity, random"),
        (lambda: Conv3d(initial="mirror"), "initial is 'mirror'; allowed: first_frame, zeros"),
        (lambda: Conv3d(padding_mode="wrap"), "padding_mode is 'wrap'; allowed: replicate, re"),
        (lambda: Conv3d(2)(torch.ones(3)), r"\(1, 1, 3, 1, 1\); expected 2 channels"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [(2, 1, 3, 4, 4), (1, 1, 3, 4, 5)])
def test_a_series_of_another_shape_needs_a_cleared_state(shape):
    layer = Conv3d(1, 1, (2, 1, 1))
    layer(torch.ones(1, 1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"series so far .* call clear_state\(\) before"):
        layer(torch.ones(shape))
    # The piece that failed left no trace.
    assert layer(torch.ones(1, 1, 3, 4, 4)).shape == (1, 1, 3, 4, 4)
    layer.clear_state()
    assert layer(torch.ones(shape)).shape == shape


def test_a_stride_in_space_takes_every_other_pixel():
    layer, x = filled(Conv3d(1, 1, (2, 3, 3), stride=(1, 2, 3))), random(1, 1, 3, 6, 7)
    every = filled(Conv3d(1, 1, (2, 3, 3)))
    torch.testing.assert_close(layer(x), every(x)[..., ::2, ::3])


def test_the_history_keeps_no_more_than_its_frames():
    layer = Conv3d(1, 1, (3, 1, 1))
    layer(torch.ones(1, 1, 100, 4, 4, requires_grad=True))
    assert layer.history.shape == (1, 1, 2, 4, 4)
    assert layer.history.untyped_storage().nbytes() == 2 * 16 * 4
    assert not layer.history.requires_grad

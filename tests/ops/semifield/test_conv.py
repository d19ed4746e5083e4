"""Select and Subtract convolutions: all ways to compute them agree, and with other operations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from msdtool.nn.semifield import BroadcastSemifield, SelectSemifield, SubtractSemifield
from msdtool.ops import semifield as ops
from msdtool.ops.semifield import Convolution, broadcast_conv, select_conv, subtract_conv, tiles

SELECT = {
    "max": (SelectSemifield.tropical_max(), BroadcastSemifield.tropical_max()),
    "min": (SelectSemifield.tropical_min_negated(), BroadcastSemifield.tropical_min_negated()),
}
SUBTRACT = {
    "linear": (SubtractSemifield.linear(), BroadcastSemifield.linear()),
    "root": (SubtractSemifield.root(2.5), BroadcastSemifield.root(2.5)),
    "log": (SubtractSemifield.log(3.0), BroadcastSemifield.log(3.0)),
    "soft minimum": (SubtractSemifield.log(-2.0), BroadcastSemifield.log(-2.0)),
}
ALL = {**SELECT, **SUBTRACT}


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Positive values, all different."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.1


def convolve(name: str, img: Tensor, kernel: Tensor, convolution: Convolution, impl: str) -> Tensor:
    semifield, broadcast = ALL[name]
    if impl == "broadcast":
        return broadcast_conv(img, kernel, broadcast, convolution)
    compute = select_conv if name in SELECT else subtract_conv
    return compute(img, kernel, semifield, convolution, impl)


def results(name: str, img: Tensor, kernel: Tensor, convolution: Convolution, impl: str):
    """The output and both gradients."""
    img, kernel = img.clone().requires_grad_(), kernel.clone().requires_grad_()
    output = convolve(name, img, kernel, convolution, impl)
    # Where all of a window is padding, the result is infinite.
    upstream = torch.where(output.isfinite(), draw(*output.shape, seed=2) - 0.6, 0)
    return output.detach(), *torch.autograd.grad(output, (img, kernel), upstream)


def assert_all_close(found, expected) -> None:
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-11)


@st.composite
def problems(draw_from):
    """Shapes of an image and a kernel that fit each other, and a convolution."""
    ndim = draw_from(st.integers(1, 3))
    groups = draw_from(st.integers(1, 3))
    shared = draw_from(st.booleans())
    num_in, num_out = draw_from(st.integers(1, 3)), draw_from(st.integers(1, 2))
    kernel = [draw_from(st.integers(1, 3)) for _ in range(ndim)]
    dilation = tuple(draw_from(st.integers(1, 3)) for _ in range(ndim))
    pads = tuple((draw_from(st.integers(-1, 3)), draw_from(st.integers(0, 3))) for _ in range(ndim))
    space = [
        max(1, (k - 1) * d + 1 - begin - end) + draw_from(st.integers(1, 4))
        for k, d, (begin, end) in zip(kernel, dilation, pads, strict=True)
    ]
    convolution = Convolution(
        stride=tuple(draw_from(st.integers(1, 3)) for _ in range(ndim)),
        padding=draw_from(st.sampled_from([pads, "same"])),
        dilation=dilation,
        groups=groups,
        group_broadcasting=shared,
        kind=draw_from(st.sampled_from(["conv", "corr"])),
    )
    batch = draw_from(st.integers(1, 2))
    kernels = num_out if shared else num_out * groups
    return (batch, groups * num_in, *space), (kernels, num_in, *kernel), convolution


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(list(ALL)), problems(), st.sampled_from([1, 60, 65536]))
def test_taps_and_linear_form_equal_the_reference(name, problem, values_per_tile):
    img, kernel, convolution = draw(*problem[0]), draw(*problem[1], seed=1), problem[2]
    expected = results(name, img, kernel, convolution, "reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "VALUES_PER_THREAD", values_per_tile)
        assert_all_close(results(name, img, kernel, convolution, "torch"), expected)
    assert_all_close(results(name, img, kernel, convolution, "auto"), expected)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(["max", "min", "linear", "log", "soft minimum"]), problems())
def test_they_equal_the_broadcast_formulation(name, problem):
    """But for windows outside of the image, where broadcasting still has a gradient."""
    img, kernel, convolution = draw(*problem[0]), draw(*problem[1], seed=1), problem[2]
    found = results(name, img, kernel, convolution, "auto")
    expected = results(name, img, kernel, convolution, "broadcast")
    torch.testing.assert_close(found[0], expected[0])
    if found[0].isfinite().all():
        assert_all_close(found, expected)


def test_roots_equal_the_broadcast_formulation_where_nothing_is_padded():
    img, kernel = draw(2, 4, 7, 8), draw(2, 2, 3, 3, seed=1)
    convolution = Convolution(padding="valid", groups=2)
    found = results("root", img, kernel, convolution, "auto")
    assert_all_close(found, results("root", img, kernel, convolution, "broadcast"))


def test_a_fourth_axis_is_an_axis_like_others():
    img, kernel = draw(1, 2, 3, 4, 5, 3), draw(2, 2, 2, 1, 3, 2, seed=1)
    for name in ALL:
        expected = results(name, img, kernel, Convolution(padding="same"), "reference")
        found = results(name, img, kernel, Convolution(padding="same"), "auto")
        assert_all_close(found, expected)


@pytest.mark.parametrize("name", list(ALL))
@pytest.mark.parametrize("impl", ["torch", "auto"])
def test_gradients_are_those_of_finite_differences(name, impl):
    img = draw(2, 4, 5, 4).requires_grad_()
    kernel = draw(4, 2, 3, 2, seed=1).requires_grad_()
    convolution = Convolution(padding=((1, 0), (2, 1)), stride=(2, 1), dilation=(1, 2), groups=2)

    def function(img: Tensor, kernel: Tensor) -> Tensor:
        return convolve(name, img, kernel, convolution, impl)

    torch.autograd.gradcheck(function, (img, kernel), fast_mode=True)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_linear_is_torchs_convolution(ndim):
    convolve_torch = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    img, kernel = draw(2, 4, *(6,) * ndim), draw(6, 2, *(3,) * ndim, seed=1)
    expected = convolve_torch(img, kernel, None, 2, 2, 2, 2)
    convolution = Convolution(2, 2, 2, groups=2, kind="corr")
    for impl in ("torch", "linear", "broadcast"):
        torch.testing.assert_close(convolve("linear", img, kernel, convolution, impl), expected)


def test_maximum_with_a_flat_kernel_is_maximum_pooling():
    img = (draw(2, 3, 9, 8) - 0.6).requires_grad_()
    flat = torch.zeros(3, 1, 3, 3, dtype=torch.float64)
    found = convolve("max", img, flat, Convolution(2, 1, groups=3), "auto")
    expected = F.max_pool2d(img, 3, 2, 1)
    assert torch.equal(found, expected)
    upstream = draw(*expected.shape)
    (left,) = torch.autograd.grad(found, img, upstream)
    (right,) = torch.autograd.grad(expected, img, upstream)
    torch.testing.assert_close(left, right)


def test_of_equal_terms_the_first_wins_by_channel_and_then_by_tap():
    img = torch.zeros(1, 2, 3, 3, requires_grad=True)
    kernel = torch.zeros(1, 2, 2, 2, requires_grad=True)
    for impl in ("torch", "reference"):
        output = convolve("max", img, kernel, Convolution(kind="corr", padding=1), impl)
        grads = torch.autograd.grad(output.sum(), (img, kernel))
        # The first tap that lies in the image: the last one in the first row and column.
        assert grads[0][0, 0].tolist() == [[4, 2, 2], [2, 1, 1], [2, 1, 1]]
        assert grads[1][0, 0].tolist() == [[9, 3], [3, 1]]
        assert not grads[0][0, 1].any()
        assert not grads[1][0, 1].any()


@pytest.mark.parametrize("name", list(ALL))
def test_a_window_outside_of_the_image_gives_zero_and_no_gradient(name):
    semifield = ALL[name][0]
    zero = semifield.zero
    img, kernel = draw(1, 1, 4), draw(1, 1, 3, seed=1)
    output, grad_img, grad_kernel = results(
        name, img, kernel, Convolution(padding=((3, 0),)), "torch"
    )
    assert output[0, 0, 0] == zero
    assert output[0, 0, 1:].isfinite().all()
    assert grad_img.isfinite().all()
    assert grad_kernel.isfinite().all()


def test_the_semifield_zero_may_be_the_winner():
    """max of products, from 0: negative products never win."""
    semifield = SelectSemifield(
        torch.lt, torch.mul, lambda img, kernel: kernel, lambda img, kernel: img, 0.0
    )
    img = torch.tensor([[[-1.0, 2.0, -3.0]]]).requires_grad_()
    kernel = torch.tensor([[[2.0]]]).requires_grad_()
    output = select_conv(img, kernel, semifield, Convolution())
    assert output.tolist() == [[[0, 4, 0]]]
    grads = torch.autograd.grad(output.sum(), (img, kernel))
    assert grads[0].tolist() == [[[0, 2, 0]]]
    assert grads[1].tolist() == [[[2]]]


def test_the_log_semifields_tend_to_maximum_and_minimum():
    img, kernel = 3 * draw(1, 2, 8, 8), draw(2, 2, 3, 3, seed=1)
    convolution = Convolution(padding="same")
    for extreme, sign in (("max", 1), ("min", -1)):
        # The erosion subtracts its kernel, the soft minimum adds it.
        target = convolve(extreme, img, sign * kernel, convolution, "auto")
        distances = []
        for mu in (1.0, 10.0, 100.0, 1e4):
            soft = subtract_conv(img, kernel, SubtractSemifield.log(sign * mu), convolution)
            distances.append(float((soft - target).abs().max()))
            # ln(number of terms) / mu is the most that a soft maximum adds.
            assert distances[-1] <= math.log(18) / mu + 1e-12
        assert distances == sorted(distances, reverse=True)


def test_the_first_root_of_positive_values_is_linear():
    img, kernel = draw(1, 2, 8, 8), draw(2, 2, 3, 3, seed=1)
    root = subtract_conv(img, kernel, SubtractSemifield.root(1.0), Convolution(padding=1))
    linear = convolve("linear", img, kernel, Convolution(padding=1), "auto")
    torch.testing.assert_close(root, linear)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_floats_are_computed_in_float32(dtype):
    img, kernel = draw(1, 2, 8, 8).to(dtype), draw(2, 2, 3, 3, seed=1).to(dtype)
    for name in ALL:
        output = convolve(name, img, kernel, Convolution(padding=1), "auto")
        exact = convolve(name, img.float(), kernel.float(), Convolution(padding=1), "auto")
        assert torch.equal(output, exact.to(dtype))


def test_an_empty_batch_passes():
    for name in ALL:
        output = convolve(name, draw(0, 1, 5, 5), draw(2, 1, 3, 3), Convolution(), "auto")
        assert output.shape == (0, 2, 3, 3)


def test_not_a_number_stays_visible():
    img = draw(1, 1, 6)
    img[0, 0, 2] = math.nan
    for name in ALL:
        output = convolve(name, img, draw(1, 1, 3), Convolution(padding=1), "auto")
        assert output.isnan()[0, 0].tolist() == [False, True, True, True, False, False]


@pytest.mark.parametrize("impl", ["fast", "linear"])
def test_other_implementations_are_refused(impl):
    with pytest.raises(
        ValueError, match=f"impl is '{impl}'; allowed: auto, cuda, torch, reference"
    ):
        convolve("max", draw(1, 1, 5), draw(1, 1, 3), Convolution(), impl)


def test_the_old_name_of_an_implementation_says_the_new_one():
    with pytest.raises(ValueError, match="impl is 'taps', which is now called 'torch'"):
        convolve("max", draw(1, 1, 5), draw(1, 1, 3), Convolution(), "taps")


def test_dtypes_must_agree():
    with pytest.raises(ValueError, match=r"dtype torch\.float32, a parameter has torch\.float64"):
        convolve("max", draw(1, 1, 5).float(), draw(1, 1, 3), Convolution(), "auto")
    with pytest.raises(ValueError, match=r"dtype torch\.int64; expected floating point"):
        convolve("max", draw(1, 1, 5).long(), draw(1, 1, 3).long(), Convolution(), "auto")


def test_copied_windows_give_the_same_and_need_two_axes():
    img, kernel = draw(2, 4, 7, 6), draw(4, 2, 3, 2, seed=1)
    convolution = Convolution((2, 1), ((1, 0), (2, 2)), (1, 2), groups=2)
    semifield = BroadcastSemifield.log(2.0)
    found = broadcast_conv(img, kernel, semifield, convolution, unfold_copy=True)
    torch.testing.assert_close(found, broadcast_conv(img, kernel, semifield, convolution))
    with pytest.raises(ValueError, match="unfold_copy needs 2 spatial axes; the image has 1"):
        broadcast_conv(img[..., 0], kernel[..., 0], semifield, Convolution(groups=2), True)


def test_functions_that_fail_on_tensors_are_named():
    good = {
        "add_select": torch.lt, "times": torch.add, "d_times_d_img": torch.mul,
        "d_times_d_kernel": torch.mul, "zero": 0.0,
    }  # fmt: skip
    ops.check_elementwise(ops.SelectOperations(**good))
    for name, function, message in (
        ("times", lambda img, kernel: math.exp(img), "times of the semifield fails on tensors"),
        ("d_times_d_img", lambda img, kernel: img.sum(0, keepdim=True), r"to shape \(1,\)"),
        ("add_select", torch.add, "add_select of the semifield must return booleans"),
        ("add_select", lambda a, b: 1.0 if a < b else 0.0, "torch.exp instead of math.exp"),
    ):
        with pytest.raises(ValueError, match=message):
            ops.check_elementwise(ops.SelectOperations(**{**good, name: function}))

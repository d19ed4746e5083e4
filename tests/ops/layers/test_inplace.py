"""In-place convolution and ReLU against gathered pixels."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool.nn import (
    ReLUInplaceFunction,
    conv2dInPlace,
    conv_relu2dInPlace,
)
from msdtool.ops.cuda import launcher
from tests import shim as kernel_shim
from tests.ops.convolution_formula import Case, make_case
from tests.ops.layers.in_place import CONVOLUTIONS, assert_near, upstream_of


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel_size = draw(st.sampled_from((1, 3, 3, 5)))
    shape = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    shape += [draw(st.integers(max(1, kernel_size // 2), 12)) for _ in range(2)]
    largest = min(shape[2:]) // max(1, kernel_size // 2)
    return make_case(
        tuple(shape),
        draw(st.integers(1, 3)),
        kernel_size,
        draw(st.integers(0, 1000)),
        stride=draw(st.integers(1, 3)),
        dilation=draw(st.integers(1, largest)),
    )


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
@pytest.mark.parametrize("impl", ["torch", "cuda"])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(case=cases(), before=st.integers(0, 2), after=st.integers(0, 2))
def test_any_convolution_into_a_slice_equals_the_formula(impl, convolve, case, before, after):
    if impl == "cuda" and kernel_shim.MISSING:
        pytest.skip(kernel_shim.MISSING)
    case.impl = impl
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launcher.LAUNCHERS, "cpu", kernel_shim.ShimLauncher())
        check_into_a_slice(case, convolve, before, after)


def check_into_a_slice(case, convolve, before, after):
    plain = case.new_output()
    channels = plain.shape[1]
    buffer = plain.new_full((len(plain), before + channels + after, *plain.shape[2:]), 7.0)
    output = case.run(convolve, buffer.data[:, before : before + channels])
    expected = case.formula(convolve)
    assert_near(buffer[:, before : before + channels], expected, 1e-12)
    assert (buffer[:, :before] == 7).all()
    assert (buffer[:, before + channels :] == 7).all()
    upstream = upstream_of(expected)
    grads = torch.autograd.grad(output, case.leaves(), upstream)
    wanted = torch.autograd.grad(expected, case.leaves(), upstream)
    for grad, one_wanted in zip(grads, wanted, strict=True):
        assert_near(grad, one_wanted, 1e-12)


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_float32_equals_the_formula(convolve, device, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    exact = make_case((2, 20, 23, 31), dilation=10)
    expected = exact.formula(convolve)
    case = Case(*(leaf.detach().float().to(device) for leaf in exact.leaves()), dilation=10)
    for leaf in case.leaves():
        leaf.requires_grad_()
    output = case.run(convolve)
    assert_near(output.cpu(), expected, 2e-5)
    grads = torch.autograd.grad(output, case.leaves(), upstream_of(expected).float().to(device))
    wanted = torch.autograd.grad(expected, exact.leaves(), upstream_of(expected))
    for grad, one_wanted in zip(grads, wanted, strict=True):
        assert_near(grad.cpu(), one_wanted, 2e-5)


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 4), (2, 1), (3, 2)])
def test_gradcheck_of_convolutions(convolve, stride, dilation):
    case = make_case((1, 2, 4, 4), 1, stride=stride, dilation=dilation)

    def run(*leaves: Tensor) -> Tensor:
        return Case(*leaves, stride, dilation).run(convolve)

    assert torch.autograd.gradcheck(run, case.leaves())


def test_gradcheck_of_relu():
    input = make_case((2, 2, 4, 5)).input
    assert torch.autograd.gradcheck(lambda x: ReLUInplaceFunction.apply(x.clone()), input)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 5), (2, 3)])
def test_backward_is_the_adjoint(stride, dilation):
    """<A x, y> = <x, A^T y>, and the same for the weight."""
    case = make_case((2, 3, 5, 9), stride=stride, dilation=dilation)
    case.bias = torch.zeros(2, dtype=torch.float64)
    output = case.run(conv2dInPlace)
    y = upstream_of(output)
    product = (output * y).sum().item()
    for leaf in (case.input, case.weight):
        (transposed,) = torch.autograd.grad(output, leaf, y, retain_graph=True)
        assert (leaf * transposed).sum().item() == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
def test_non_contiguous_input_weight_and_gradient(convolve):
    case = make_case((2, 3, 6, 8))
    upstream = torch.randn(2, 2, 8, 6, dtype=torch.float64).mT
    expected = torch.autograd.grad(case.formula(convolve), case.leaves(), upstream)
    strided = Case(
        case.input.mT.contiguous().mT, case.weight.transpose(0, 1).contiguous().transpose(0, 1),
        case.bias,
    )  # fmt: skip
    assert not strided.input.is_contiguous() and not strided.weight.is_contiguous()
    output = strided.run(convolve, torch.empty(2, 2, 8, 6, dtype=torch.float64).mT)
    assert_near(output, case.formula(convolve), 1e-12)
    for grad, wanted in zip(
        torch.autograd.grad(output, case.leaves(), upstream), expected, strict=True
    ):
        assert_near(grad, wanted, 1e-12)


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
@pytest.mark.parametrize("trained", list(itertools.product([False, True], repeat=3)))
def test_only_what_trains_gets_a_gradient(convolve, trained):
    case = make_case()
    upstream = upstream_of(case.new_output())
    expected = torch.autograd.grad(case.formula(convolve), case.leaves(), upstream)
    for leaf, trains in zip(case.leaves(), trained, strict=True):
        leaf.requires_grad_(trains)
    output = case.run(convolve)
    assert output.requires_grad == any(trained)
    if any(trained):
        output.backward(upstream)
    for leaf, trains, wanted in zip(case.leaves(), trained, expected, strict=True):
        assert (leaf.grad is not None) == trains
        if trains:
            assert_near(leaf.grad, wanted, 1e-12)


def test_relu_overwrites_its_input_and_passes_nan_on():
    leaf = torch.tensor([-2.0, 0.0, 3.0, torch.nan], requires_grad=True)
    input = leaf * 1
    output = ReLUInplaceFunction.apply(input)
    assert output is input
    torch.testing.assert_close(
        output.detach(), torch.tensor([0.0, 0.0, 3.0, torch.nan]), equal_nan=True
    )
    output.backward(torch.full((4,), 5.0))
    assert leaf.grad.tolist() == [0, 0, 5, 5]  # as torch.relu


def test_relu_of_a_slice_leaves_its_neighbours():
    leaf = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    buffer = leaf * 1
    ReLUInplaceFunction.apply(buffer[:, 1:2])
    expected = torch.cat([leaf[:, :1], leaf[:, 1:2].clamp(min=0), leaf[:, 2:]], dim=1)
    assert torch.equal(buffer, expected)
    upstream = torch.randn_like(leaf)
    (grad,) = torch.autograd.grad(buffer, leaf, upstream)
    assert torch.equal(grad, torch.autograd.grad(expected, leaf, upstream)[0])


@pytest.mark.parametrize("run", [
    lambda x: conv2dInPlace(x, torch.ones(1, 1, 3, 3), torch.zeros(1), torch.zeros_like(x)),
    lambda x: conv_relu2dInPlace(x, torch.ones(1, 1, 3, 3), torch.zeros(1), torch.zeros_like(x)),
    lambda x: ReLUInplaceFunction.apply(x * 1),
])  # fmt: skip
def test_a_second_derivative_is_refused(run):
    x = torch.ones(1, 1, 4, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
def test_an_empty_batch(convolve):
    case = make_case((0, 3, 6, 7))
    output = case.run(convolve)
    assert output.shape == (0, 2, 6, 7)
    grads = torch.autograd.grad(output.sum(), case.leaves())
    assert [grad.shape for grad in grads] == [leaf.shape for leaf in case.leaves()]
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize(("changes", "message"), [
    ({"stride": 0}, "stride is 0; allowed: 1 or more"),
    ({"dilation": 0}, "dilation is 0; allowed: 1 or more"),
    ({"dilation": 7}, "dilation 7 is too large for an image of size 6: .* size 3 allows at most 6"),
    ({"weight": torch.zeros(2, 3, 5, 5), "dilation": 4}, "dilation 4 .* size 6.* at most 3"),
    ({"weight": torch.zeros(2, 3, 2, 2)}, r"weight has shape \(2, 3, 2, 2\); .* 3, k, k\] with k"),
    ({"weight": torch.zeros(2, 4, 3, 3)}, r"weight has shape \(2, 4, 3, 3\); expected \[C_out, 3"),
    ({"weight": torch.zeros(2, 3, 3, 5)}, r"weight has shape \(2, 3, 3, 5\)"),
    ({"bias": torch.zeros(3)}, r"bias has shape \(3,\); expected \(2,\)"),
    ({"input": torch.zeros(3, 6, 7)}, r"input has shape \(3, 6, 7\); expected \[B, C_in, H, W\]"),
    ({"input": torch.zeros(1, 3, 0, 7)}, r"input has shape \(1, 3, 0, 7\); .* non-empty images"),
    ({"stride": 2}, r"output has shape \(2, 2, 6, 7\); expected \(2, 2, 3, 4\)"),
    ({"weight": torch.zeros(2, 3, 3, 3).double()}, "weight is torch.float64 on cpu; .*float32"),
    ({"output": torch.zeros(2, 2, 6, 7, device="meta")}, "output is torch.float32 on meta; .*cpu"),
])  # fmt: skip
@pytest.mark.parametrize("convolve", CONVOLUTIONS)
def test_wrong_arguments_are_named(convolve, changes, message):
    arguments = {
        "input": torch.zeros(2, 3, 6, 7),
        "weight": torch.zeros(2, 3, 3, 3),
        "bias": torch.zeros(2),
        "output": torch.zeros(2, 2, 6, 7),
    }
    with pytest.raises(ValueError, match=message):
        convolve(**{**arguments, **changes})

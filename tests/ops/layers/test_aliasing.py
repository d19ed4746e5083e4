"""The rules of aliasing: what in-place layers keep, and what is noticed when it is overwritten."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msdtool.nn import (
    Conv2dInPlaceFunction,
    ConvRelu2dInPlaceFunction,
    ReLUInplaceFunction,
    conv2dInPlace,
    conv_relu2dInPlace,
)
from tests.ops.convolution_formula import Case, make_case
from tests.ops.layers.in_place import CONVOLUTIONS, assert_near


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
def test_nothing_is_kept_but_the_arguments(convolve):
    case = make_case()
    output = case.new_output()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        case.run(convolve, output)
    own = {tensor.data_ptr() for tensor in (*case.leaves(), output)}
    assert kept
    assert {tensor.data_ptr() for tensor in kept} <= own


@pytest.mark.parametrize("function", [Conv2dInPlaceFunction, ConvRelu2dInPlaceFunction])
@pytest.mark.parametrize("trains", [True, False])
def test_the_result_is_the_given_memory_and_the_buffer_has_no_history(function, trains):
    case = make_case()
    buffer = torch.zeros(2, 5, 6, 7, dtype=torch.float64)
    output = buffer[:, 1:3]
    with torch.set_grad_enabled(trains):
        result = case.run(function.apply, output)
    assert result.requires_grad == trains
    assert not buffer.requires_grad
    assert not output.requires_grad
    assert (result.data_ptr(), result.stride()) == (output.data_ptr(), output.stride())
    assert torch.equal(result, buffer[:, 1:3])


@pytest.mark.parametrize(("convolve", "overwrite"), [
    (conv2dInPlace, lambda case, output: case.input.detach().zero_()),
    (conv2dInPlace, lambda case, output: case.weight.detach().zero_()),
    (conv_relu2dInPlace, lambda case, output: output.detach().zero_()),
    (conv_relu2dInPlace, lambda case, output: case.run(conv_relu2dInPlace, output.detach())),
])  # fmt: skip
def test_overwriting_what_backward_needs_is_noticed(convolve, overwrite):
    case = make_case()
    output = case.run(convolve)
    overwrite(case, output)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_what_backward_does_not_need_may_be_overwritten():
    case = make_case()
    case.weight.requires_grad_(False)
    expected = torch.autograd.grad(case.formula(conv2dInPlace).sum(), case.input)[0]
    output = case.run(conv2dInPlace)
    total = output.sum()
    case.input.detach().zero_()
    output.detach().zero_()
    assert_near(torch.autograd.grad(total, case.input)[0], expected, 1e-12)


def run_two_layers(case: Case, part: Callable[[int], Tensor]) -> Tensor:
    """Each layer on a channel of its own; the first one's ReLU needs its output for backward."""
    first = conv_relu2dInPlace(case.input, case.weight, case.bias, part(0))
    return conv_relu2dInPlace(first, case.weight, case.bias, part(1))


def test_channels_are_kept_for_backward_through_data():
    case = make_case((1, 1, 6, 7), c_out=1)
    hidden = case.formula(conv_relu2dInPlace)
    expected = Case(hidden, case.weight, case.bias).formula(conv_relu2dInPlace)
    buffer = case.input.new_empty(1, 2, 6, 7)
    output = run_two_layers(case, lambda i: buffer.data[:, i : i + 1])
    assert_near(buffer, torch.cat([hidden, expected], dim=1), 1e-12)
    grads = torch.autograd.grad(output.sum(), case.leaves())
    wanted = torch.autograd.grad(expected.sum(), case.leaves())
    for grad, one_wanted in zip(grads, wanted, strict=True):
        assert_near(grad, one_wanted, 1e-12)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_channels_are_kept_for_backward_in_a_plain_buffer(requires_grad):
    case = make_case((1, 1, 6, 7), c_out=1)
    expected = Case(case.formula(conv_relu2dInPlace), case.weight, case.bias).formula(
        conv_relu2dInPlace
    )
    buffer = case.input.new_zeros(1, 2, 6, 7).requires_grad_(requires_grad)
    output = run_two_layers(case, lambda i: buffer[:, i : i + 1])
    grads = torch.autograd.grad(output.sum(), case.leaves())
    wanted = torch.autograd.grad(expected.sum(), case.leaves())
    for grad, one_wanted in zip(grads, wanted, strict=True):
        assert_near(grad, one_wanted, 1e-12)


@pytest.mark.parametrize("overwrite", [
    lambda case, buffer: buffer[:, :1].zero_(),
    lambda case, buffer: buffer[:, 1:].zero_(),  # torch does not say which channels it wrote
    lambda case, buffer: case.run(conv2dInPlace, buffer[:, :1]),
    lambda case, buffer: case.run(conv2dInPlace, buffer.data[:, :1]),
    lambda case, buffer: ReLUInplaceFunction.apply(buffer[:, :1]),
])  # fmt: skip
def test_overwriting_channels_that_backward_needs_is_noticed(overwrite):
    case = make_case((1, 1, 6, 7), c_out=1)
    buffer = case.input.new_empty(1, 2, 6, 7)
    output = run_two_layers(case, lambda i: buffer[:, i : i + 1])
    overwrite(case, buffer)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_layers_of_torch_notice_any_change_of_the_buffer_they_read():
    case = make_case((1, 1, 6, 7), c_out=1)
    buffer = case.input.new_empty(1, 2, 6, 7)
    square = case.run(conv2dInPlace, buffer[:, :1]).square()
    case.run(conv2dInPlace, buffer[:, 1:])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.sum().backward()


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
def test_an_output_that_requires_a_gradient_gets_none(convolve):
    case = make_case((1, 1, 4, 4), c_out=1)
    output = case.new_output().requires_grad_()
    result = case.run(convolve, output)
    grads = torch.autograd.grad(result.sum(), case.leaves(), retain_graph=True)
    wanted = torch.autograd.grad(case.formula(convolve).sum(), case.leaves())
    for grad, one_wanted in zip(grads, wanted, strict=True):
        assert_near(grad, one_wanted, 1e-12)
    result.sum().backward()
    assert output.grad is None
    with pytest.raises(ValueError, match=r"output is part of a graph, .*MulBackward"):
        case.run(convolve, output * 1)


def test_relu_over_a_leaf_leaves_its_gradient():
    leaf = torch.tensor([-2.0, 3.0], requires_grad=True)
    output = ReLUInplaceFunction.apply(leaf)
    assert leaf.is_leaf
    assert leaf.tolist() == output.tolist() == [0, 3]
    (output * torch.tensor([5.0, 7.0])).sum().backward()
    assert leaf.grad.tolist() == [0, 7]


def test_output_on_channels_of_the_input_is_refused():
    buffer = torch.zeros(2, 5, 6, 7)
    arguments = buffer[:, 1:4], torch.zeros(1, 3, 3, 3), torch.zeros(1)
    for channel in (1, 3):
        with pytest.raises(ValueError, match=f"starts {channel - 1} channels after .* has 3"):
            conv2dInPlace(*arguments, buffer[:, channel : channel + 1])
    for channel in (0, 4):
        conv2dInPlace(*arguments, buffer[:, channel : channel + 1])
    with pytest.raises(ValueError, match="output overlaps input: its elements are among those"):
        square = torch.zeros(1, 1, 4, 4)
        conv2dInPlace(square, torch.zeros(1, 1, 3, 3), torch.zeros(1), square.mT)
    wide = torch.zeros(1, 1, 6, 14)
    conv2dInPlace(wide[..., :7], torch.zeros(1, 1, 3, 3), torch.zeros(1), wide[..., 7:])

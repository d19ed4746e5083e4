"""In-place convolution by CUDA kernels, which the shim runs on the CPU."""

import pytest
import torch

from msdtool.errors import KernelError
from msdtool.nn import (
    conv2dInPlace,
    conv_relu2dInPlace,
)
from tests.ops.convolution_formula import Case, make_case
from tests.ops.layers.in_place import CONVOLUTIONS, assert_near


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_kernels_leave_out_what_needs_no_gradient(convolve, frozen, cuda):
    case = make_case((1, 2, 6, 7))
    wanted = torch.autograd.grad(case.formula(convolve).sum(), case.leaves())
    case.leaves()[frozen].requires_grad_(False)
    case.impl = cuda
    case.run(convolve).sum().backward()
    for index, (leaf, one_wanted) in enumerate(zip(case.leaves(), wanted, strict=True)):
        if index == frozen:
            assert leaf.grad is None
        else:
            assert_near(leaf.grad, one_wanted, 1e-12)


def test_only_the_bias_trains_by_kernels(cuda):
    case = make_case((2, 2, 6, 7))
    (wanted,) = torch.autograd.grad(case.formula(conv_relu2dInPlace).sum(), [case.bias])
    for leaf in (case.input, case.weight):
        leaf.requires_grad_(False)
    case.impl = cuda
    case.run(conv_relu2dInPlace).sum().backward()
    assert_near(case.bias.grad, wanted, 1e-12)


def test_writing_by_a_kernel_counts_for_its_channels(cuda):
    case = make_case((1, 1, 6, 7), c_out=1)
    case.impl = cuda
    buffer = case.input.new_empty(1, 2, 6, 7)
    first = case.run(conv_relu2dInPlace, buffer[:, :1])
    output = Case(first, case.weight, case.bias, impl=cuda).run(conv_relu2dInPlace, buffer[:, 1:])
    output.sum().backward(retain_graph=True)
    case.run(conv_relu2dInPlace, buffer[:, :1])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_kernels_take_any_strides(cuda):
    case = make_case((2, 3, 6, 8))
    upstream = torch.randn(2, 2, 8, 6, dtype=torch.float64).mT
    expected = torch.autograd.grad(case.formula(conv_relu2dInPlace), case.leaves(), upstream)
    strided = Case(
        case.input.mT.contiguous().mT, case.weight.transpose(0, 1).contiguous().transpose(0, 1),
        case.bias, impl=cuda,
    )  # fmt: skip
    output = strided.run(conv_relu2dInPlace, torch.empty(2, 2, 8, 6, dtype=torch.float64).mT)
    assert_near(output, case.formula(conv_relu2dInPlace), 1e-12)
    for grad, wanted in zip(
        torch.autograd.grad(output, case.leaves(), upstream), expected, strict=True
    ):
        assert_near(grad, wanted, 1e-12)


def test_unknown_and_impossible_implementations_are_named():
    case = make_case((1, 1, 6, 7))
    case.impl = "fast"
    with pytest.raises(ValueError, match="impl is 'fast'; allowed: auto, cuda, torch"):
        case.run(conv2dInPlace)
    case.impl = "cuda"
    with pytest.raises(KernelError, match="impl is 'cuda', but CUDA kernels need tensors on a GPU"):
        case.run(conv2dInPlace)

"""Modules that convolve into memory of the caller; the arithmetic is tested with the functions."""

import pytest
import torch
from torch import nn

from msdtool.nn import (
    Conv2dInPlaceModule,
    ConvRelu2dInPlaceModule,
    ReLUInplaceModule,
    conv2dInPlace,
    conv_relu2dInPlace,
)
from tests.ops.convolution_formula import Case

MODULES = [Conv2dInPlaceModule, ConvRelu2dInPlaceModule]


@pytest.mark.parametrize("module_class", MODULES)
def test_parameters_are_named_shaped_and_drawn_like_those_of_torch(module_class):
    torch.manual_seed(0)
    expected = nn.Conv2d(3, 2, 5).state_dict()
    torch.manual_seed(0)
    state = module_class(torch.empty(0), 3, 2, kernel_size=5).state_dict()
    assert list(state) == ["weight", "bias"]
    for name, values in state.items():
        assert torch.equal(values, expected[name])


@pytest.mark.parametrize(
    ("module_class", "function"),
    [(Conv2dInPlaceModule, conv2dInPlace), (ConvRelu2dInPlaceModule, conv_relu2dInPlace)],
)
@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (3, 4), (5, 2)])
def test_the_convolution_lands_in_the_output(module_class, function, kernel_size, dilation):
    buffer = torch.full((2, 6, 7, 9), 3.0, dtype=torch.float64)
    module = module_class(buffer[:, 1:3], 3, 2, kernel_size, dilation).double()
    input = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    result = module(input)
    expected = Case(input, module.weight, module.bias, dilation=dilation).formula(function)
    torch.testing.assert_close(buffer[:, 1:3], expected.detach(), rtol=1e-12, atol=1e-12)
    assert (buffer[:, [0, 3, 4, 5]] == 3).all()
    assert result.data_ptr() == buffer[:, 1:3].data_ptr()
    upstream = torch.randn_like(expected)
    parameters = [module.weight, module.bias]
    torch.testing.assert_close(
        torch.autograd.grad(result, parameters, upstream),
        torch.autograd.grad(expected, parameters, upstream),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("module_class", MODULES)
def test_training_reuses_the_output_pass_after_pass(module_class):
    torch.manual_seed(0)
    module = module_class(torch.empty(1, 1, 6, 6), 1, 1)
    nn.init.constant_(module.bias, 1.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    input = torch.rand(1, 1, 6, 6)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = module(input).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_backward_after_the_output_was_reused_is_noticed():
    module = ConvRelu2dInPlaceModule(torch.empty(1, 1, 6, 6), 1, 1)
    first = module(torch.rand(1, 1, 6, 6))
    module(torch.rand(1, 1, 6, 6))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()


def test_another_output_serves_images_of_another_size():
    module = Conv2dInPlaceModule(torch.empty(1, 1, 6, 6), 1, 1)
    with pytest.raises(ValueError, match=r"output has shape \(1, 1, 6, 6\); expected \(1, 1, 8, 9"):
        module(torch.rand(1, 1, 8, 9))
    module.output = torch.empty(1, 1, 8, 9)
    assert module(torch.rand(1, 1, 8, 9)).data_ptr() == module.output.data_ptr()


def test_relu_works_between_other_layers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), ReLUInplaceModule(), nn.Conv2d(2, 1, 3))
    plain = nn.Sequential(network[0], nn.ReLU(), network[2])
    input = torch.randn(1, 1, 8, 8)
    parameters = list(network.parameters())
    output, expected = network(input), plain(input)
    assert torch.equal(output, expected)
    for grad, wanted in zip(
        torch.autograd.grad(output.sum(), parameters),
        torch.autograd.grad(expected.sum(), parameters),
        strict=True,
    ):
        assert torch.equal(grad, wanted)


@pytest.mark.parametrize("module_type", [Conv2dInPlaceModule, ConvRelu2dInPlaceModule])
def test_the_memory_may_be_assigned_later(module_type):
    module = module_type(None, 1, 1)
    with pytest.raises(ValueError, match="output is None; assign the memory to write to"):
        module(torch.zeros(1, 1, 4, 4))
    module.output = torch.zeros(1, 1, 4, 4)
    assert module(torch.ones(1, 1, 4, 4)).data_ptr() == module.output.data_ptr()

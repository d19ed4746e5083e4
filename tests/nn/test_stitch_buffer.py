"""The life of the buffer that stitched layers share."""

import copy

import pytest
import torch
from torch import Tensor

from msdtool.nn import (
    Conv2dInPlaceModule,
    StitchBuffer,
    stitchCopy,
    stitchLazy,
)
from tests.nn.stitched import NEAR, StitchedBlock
from tests.ops.formula import block_formula, make_problem


@pytest.mark.parametrize("weights_train", [True, False])
@pytest.mark.parametrize("trains_second", [True, False])
def test_a_pass_keeps_its_layers_until_its_backward(weights_train, trains_second):
    problem = make_problem((6, 7), 2)
    network = StitchedBlock(problem).requires_grad_(weights_train)
    first = network(problem.input)
    memory = first.data_ptr()
    with torch.set_grad_enabled(trains_second):
        second = network(problem.input.detach() + 1)
    assert second.data_ptr() != memory
    expected = block_formula(problem)
    torch.testing.assert_close(first, expected, **NEAR)
    wanted = torch.autograd.grad(expected.square().sum(), problem.input)[0]
    grad = torch.autograd.grad(first.square().sum(), problem.input)[0]
    torch.testing.assert_close(grad, wanted, **NEAR)


def test_one_buffer_serves_all_passes_that_go_backward():
    problem = make_problem((6, 7), 2)
    network = StitchedBlock(problem)
    memory = set()
    for _ in range(3):
        output = network(problem.input)
        output.sum().backward()
        memory.add(output.data_ptr())
    with torch.no_grad():
        memory.add(network(problem.input).data_ptr())
    assert len(memory) == 1


def test_backward_through_layers_of_another_pass_is_refused():
    problem = make_problem((6, 7), 2)
    network = StitchedBlock(problem)
    first = network(problem.input)
    first.sum().backward(retain_graph=True)
    network(problem.input.detach() + 1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()


@pytest.mark.parametrize("taken", ["before", "each time"])
def test_a_slice_of_a_buffer_that_was_replaced_is_noticed(taken):
    buffer = StitchBuffer()
    input = torch.rand(1, 1, 4, 4)
    buffer.like_(input, (1, 2, 4, 4))
    layer = Conv2dInPlaceModule(buffer.L[:, 1:], 1, 1)

    def run() -> Tensor:
        buffer.like_(input, (1, 2, 4, 4))
        if taken == "each time":
            layer.output = buffer.L[:, 1:]
        return stitchLazy(layer(stitchCopy(input, buffer.L, buffer.G, 0)), buffer.L, buffer.G, 1)

    first = run()
    if taken == "before":
        with pytest.raises(ValueError, match="input does not lie in L at channel 1"):
            run()
    else:
        assert torch.equal(run(), first)


def test_zero_empties_both_buffers_and_is_noticed_by_a_pass_that_needs_them():
    problem = make_problem((6, 7), 2)
    network = StitchedBlock(problem)
    output = network(problem.input).square().sum()
    network.buffer.G.fill_(3)
    network.buffer.zero_()
    assert not network.buffer.L.any()
    assert not network.buffer.G.any()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_a_copy_of_a_network_has_a_buffer_of_its_own():
    problem = make_problem((6, 7), 2)
    network = StitchedBlock(problem)
    output = network(problem.input)
    other = copy.deepcopy(network)
    assert other.layers[0].buffer is other.layers[1].buffer is other.buffer
    other(problem.input.detach() + 1)
    output.sum().backward()
    torch.testing.assert_close(output, block_formula(problem), **NEAR)


def test_a_buffer_follows_shape_dtype_and_device():
    buffer = StitchBuffer()
    buffer.like_(torch.zeros(1, dtype=torch.float64), (2, 3, 4, 5))
    assert buffer.L.shape == buffer.G.shape == (2, 3, 4, 5)
    assert buffer.L.dtype == buffer.G.dtype == torch.float64
    assert not buffer.G.any()
    for tensor, shape in [
        (torch.zeros(1, dtype=torch.float64), (2, 3, 4, 6)),
        (torch.zeros(1), (2, 3, 4, 6)),
        (torch.zeros(1, device="meta"), (2, 3, 4, 6)),
    ]:
        before = buffer.L
        buffer.like_(tensor, shape)
        assert buffer.L is not before
        for one in (buffer.L, buffer.G):
            assert (one.shape, one.dtype, one.device) == (shape, tensor.dtype, tensor.device)


def test_a_buffer_that_matches_is_left_alone():
    buffer = StitchBuffer()
    buffer.like_(torch.zeros(1), (1, 2, 4, 4))
    buffer.L.fill_(1)
    buffer.G.fill_(2)
    layers, grads = buffer.L, buffer.G
    buffer.like_(torch.ones(3), [1, 2, 4, 4])
    assert buffer.L is layers
    assert buffer.G is grads
    assert (layers == 1).all()
    assert (grads == 2).all()


def test_a_buffer_of_inference_serves_training_later():
    problem = make_problem((6, 7), 2)
    network = StitchedBlock(problem)
    with torch.inference_mode():
        inferred = network(problem.input).clone()
    output = network(problem.input)
    assert torch.equal(inferred, output)
    output.sum().backward()

"""Networks of stitched layers against the block's reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from msdtool.nn import (
    Conv2dInPlaceModule,
    MSDBlock2d,
    MSDFinalLayer,
    MSDLayerModule,
    MSDModule,
    ReLUInplaceModule,
    StitchBuffer,
    StitchCopyModule,
    StitchLazyModule,
    msdblock2d,
    stitchCopy,
    stitchLazy,
)
from msdtool.ops import reference
from tests.nn.stitched import NEAR, StitchedBlock
from tests.ops.formula import Problem, block_formula, make_problem


def expected_gradients(problem: Problem, output: Tensor, upstream: Tensor) -> list[Tensor]:
    """Of input, weights and the biases of each layer."""
    leaves = [problem.input, *problem.weights, problem.bias]
    *grads, bias = torch.autograd.grad(output, leaves, upstream)
    return [*grads, *bias.split(problem.weights[0].shape[0])]


def check_against(problem: Problem, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Output, and every gradient of two backward passes through the same graph."""
    network = StitchedBlock(problem)
    output = network(problem.input)
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(expected)
    wanted = expected_gradients(problem, expected, upstream)
    for _ in range(2):
        grads = torch.autograd.grad(
            output, [problem.input, *network.leaves()], upstream, retain_graph=True
        )
        for grad, one_wanted in zip(grads, wanted, strict=True):
            torch.testing.assert_close(grad, one_wanted, rtol=tolerance, atol=tolerance)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    space = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    return make_problem(
        space,
        draw(st.integers(1, 5)),
        width=draw(st.integers(1, 3)),
        c_in=draw(st.integers(1, 3)),
        batch=draw(st.integers(1, 2)),
        dilations=tuple(draw(st.lists(st.integers(1, min(space)), min_size=1, max_size=3))),
        seed=draw(st.integers(0, 1000)),
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=problems())
def test_any_network_of_layers_equals_the_formula(problem):
    check_against(problem, block_formula(problem))


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_network_of_layers_equals_the_reference(contiguous):
    problem = make_problem((17, 13), 12, width=2, c_in=3, batch=2, dilations=(1, 4, 9))
    if not contiguous:
        problem.input = problem.input.detach().mT.contiguous().mT.requires_grad_()
    check_against(problem, reference.msd_block(*problem.block_arguments()))


def test_gradcheck_of_a_network_of_layers():
    problem = make_problem((4, 3), 2, dilations=(1, 2))
    network = StitchedBlock(problem)

    def run(input: Tensor, *parameters: Tensor) -> Tensor:
        names = [f"layers.{i}.{name}" for name in ("weight", "bias") for i in range(2)]
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), input)

    assert torch.autograd.gradcheck(run, [problem.input, *network.leaves()])


@pytest.mark.parametrize("trained", ["input", "weight0", "weight2", "bias1", "bias3"])
def test_one_trains_and_the_rest_is_frozen(trained):
    problem = make_problem((7, 8), 4, width=2)
    expected = block_formula(problem)
    upstream = torch.randn_like(expected)
    network = StitchedBlock(problem)
    leaves = [problem.input, *network.leaves()]
    names = ["input", *(f"{kind}{i}" for kind in ("weight", "bias") for i in range(4))]
    wanted = expected_gradients(problem, expected, upstream)[names.index(trained)]
    for name, leaf in zip(names, leaves, strict=True):
        leaf.requires_grad_(name == trained)
    network(problem.input).backward(upstream)
    for name, leaf in zip(names, leaves, strict=True):
        if name == trained:
            torch.testing.assert_close(leaf.grad, wanted, **NEAR)
        else:
            assert leaf.grad is None


def test_gradients_add_up_over_images_of_different_sizes():
    small, large = make_problem((5, 6), 3), make_problem((9, 8), 3, batch=2)
    network = StitchedBlock(small)
    total = 0
    for problem in (small, large, small):
        network(problem.input).square().sum().backward()
        problem.weights, problem.bias = small.weights, small.bias
        total = total + block_formula(problem).square().sum()
    wanted = torch.autograd.grad(total, [*small.weights, small.bias])
    grads = [layer.weight.grad for layer in network.layers]
    grads.append(torch.cat([layer.bias.grad for layer in network.layers]))
    for grad, one_wanted in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, one_wanted, **NEAR)


def test_layers_with_a_final_layer_learn_as_the_whole_module_does():
    torch.manual_seed(0)
    whole = MSDModule(1, 2, 3, 1, [1, 2, 3]).double()
    nn.init.normal_(whole.final_layer.linear.weight)
    problem = make_problem((8, 9), 3)
    problem.weights, problem.bias = whole.msd_block.weights, whole.msd_block.bias
    final = MSDFinalLayer(4, 2).double()
    final.load_state_dict(whole.final_layer.state_dict())
    stitched = nn.Sequential(StitchedBlock(problem), final)
    start = whole.msd_block.weights[0].detach().clone()
    for network in (whole, stitched):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            network(problem.input.detach()).square().mean().backward()
            optimizer.step()
    for layer, weight in zip(stitched[0].layers, whole.msd_block.weights, strict=True):
        torch.testing.assert_close(layer.weight, weight, **NEAR)
    assert not torch.equal(whole.msd_block.weights[0], start)


@pytest.mark.parametrize("whole", [True, False])
def test_layers_compose_without_data(whole):
    """In-place convolution, in-place ReLU and lazy stitching, on plain slices of the buffer."""
    problem = make_problem((7, 6), 3, width=1, c_in=1)
    buffer = StitchBuffer()
    relu = ReLUInplaceModule()
    convolutions = []
    for i, (weight, bias) in enumerate(zip(problem.weights, problem.bias, strict=True)):
        convolution = Conv2dInPlaceModule(None, i + 1, 1, dilation=problem.dilations[i])
        convolution.weight = nn.Parameter(weight.detach().clone())
        convolution.bias = nn.Parameter(bias.detach().clone().reshape(1))
        convolutions.append(convolution)

    def run(input: Tensor) -> Tensor:
        buffer.like_(input, (1, 4 if whole else 6, 7, 6))
        buffer.zero_()
        output = stitchCopy(input, buffer.L, buffer.G, 0)
        for i, convolution in enumerate(convolutions):
            convolution.output = buffer.L.narrow(1, i + 1, 1)
            output = stitchLazy(relu(convolution(output)), buffer.L, buffer.G, i + 1)
        return output

    expected, output = block_formula(problem), run(problem.input)
    torch.testing.assert_close(output, expected, **NEAR)
    upstream = torch.randn_like(expected)
    wanted = expected_gradients(problem, expected, upstream)
    leaves = [c.weight for c in convolutions] + [c.bias for c in convolutions]
    grads = torch.autograd.grad(output, [problem.input, *leaves], upstream)
    for grad, one_wanted in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, one_wanted, **NEAR)
    assert not whole or torch.autograd.gradcheck(run, problem.input)


def test_copied_layers_pass_gradcheck_in_one_buffer():
    torch.manual_seed(0)
    buffer = StitchBuffer()
    layers = [nn.Conv2d(i + 1, 1, 1).double() for i in range(4)]

    def run(input: Tensor) -> Tensor:
        buffer.like_(input, (1, 4, 3, 3))
        buffer.zero_()
        for i, layer in enumerate(layers):
            input = layer(StitchCopyModule(buffer, i)(input)).tanh()
        return input

    assert torch.autograd.gradcheck(run, torch.rand(1, 1, 3, 3).double().requires_grad_())


def test_a_layer_has_the_documented_parameters():
    layer = MSDLayerModule(StitchBuffer(), 3, 2, 4, 5)
    shapes = {name: tuple(values.shape) for name, values in layer.state_dict().items()}
    assert shapes == {"weight": (4, 3 + 4 * 2, 3, 3), "bias": (4,)}
    assert layer.dilation == 5


def test_a_layer_refuses_what_it_cannot_read_or_write():
    buffer = StitchBuffer()
    input = torch.zeros(1, 1, 4, 4)
    buffer.like_(input, (1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"input does not lie in .*StitchCopyModule\(buffer, 0\)"):
        MSDLayerModule(buffer, 1, 0, 1, 1)(input)
    stitched = StitchCopyModule(buffer, 0)(input)
    with pytest.raises(ValueError, match=r"buffer has 2 channels; .* writes channels 1 to 2"):
        MSDLayerModule(buffer, 1, 0, 2, 1)(stitched)
    with pytest.raises(ValueError, match="dilation 5 is too large for an image of size 4"):
        MSDLayerModule(buffer, 1, 0, 1, 5)(stitched)


def test_modules_stitch_at_their_channel():
    buffer = StitchBuffer()
    buffer.like_(torch.zeros(1), (1, 5, 4, 4))
    input = torch.rand(1, 2, 4, 4)
    assert StitchCopyModule(buffer, 1)(input).shape[1] == 3
    expected = torch.cat([torch.zeros(1, 1, 4, 4), input, torch.zeros(1, 2, 4, 4)], dim=1)
    assert torch.equal(buffer.L, expected)
    lazy = StitchLazyModule(buffer, 2)(buffer.L[:, 2:4])
    assert torch.equal(lazy, expected[:, :4])
    assert torch.equal(buffer.L, expected)


def test_msdblock2d_is_the_block_of_the_original():
    torch.manual_seed(0)
    block = MSDBlock2d(2, [1, 3], width=2)
    nn.init.normal_(block.bias)
    input = torch.rand(1, 2, 7, 8)
    output = msdblock2d(input, [1, 3], block.bias, *block.weights)
    expected = reference.msd_block(input, block.weights, block.bias, [1, 3], "symmetric")
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())

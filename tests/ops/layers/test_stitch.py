"""Stitching: what is written where, and how the gradient is threaded through the buffer."""

import pytest
import torch
from torch import Tensor, nn

from msdtool.nn import stitchCopy, stitchLazy, stitchSlow

SPACES = [(5,), (4, 3), (2, 3, 4)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def new_buffers(channels: int, space: tuple[int, ...] = (4, 3)) -> tuple[Tensor, Tensor]:
    """L and G with something in them."""
    return draw(2, channels, *space, seed=1), draw(2, channels, *space, seed=2)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("i", [0, 2])
def test_copy_writes_its_channels_and_returns_all_up_to_them(space, c, i):
    L, G = new_buffers(6, space)
    before, G_before = L.clone(), G.clone()
    input = draw(2, c, *space)
    output = stitchCopy(input, L, G, i)
    assert torch.equal(L, torch.cat([before[:, :i], input, before[:, i + c :]], dim=1))
    assert torch.equal(G, G_before)
    assert output.shape[1] == i + c
    assert output.data_ptr() == L.data_ptr()
    assert output.stride() == L.stride()


@pytest.mark.parametrize("space", SPACES)
def test_lazy_writes_nothing_and_returns_all_up_to_its_input(space):
    L, G = new_buffers(6, space)
    before, G_before = L.clone(), G.clone()
    output = stitchLazy(L[:, 3:5], L, G, 3)
    assert torch.equal(stitchLazy(L[:, 3:5].clone(), L, G, 3), output)
    assert torch.equal(L, before)
    assert torch.equal(G, G_before)
    assert output.shape[1] == 5
    assert output.data_ptr() == L.data_ptr()
    assert output.stride() == L.stride()


def test_lazy_refuses_an_input_that_lies_elsewhere():
    L, G = new_buffers(6)
    with pytest.raises(ValueError, match="input does not lie in L at channel 3: other values do"):
        stitchLazy(L[:, 2:4], L, G, 3)


def lying_in(L: Tensor, i: int, input: Tensor) -> Tensor:
    with torch.no_grad():
        L.narrow(1, i, input.shape[1]).copy_(input)
    return input


@pytest.mark.parametrize("stitch", [stitchCopy, stitchLazy])
def test_backward_adds_to_g_and_returns_the_inputs_channels(stitch):
    L, G = new_buffers(6)
    G_before = G.clone()
    input = draw(2, 2, 4, 3).requires_grad_()
    upstream = draw(2, 5, 4, 3, seed=3)
    output = stitch(lying_in(L, 3, input), L, G, 3)
    (grad,) = torch.autograd.grad(output, input, upstream, retain_graph=True)
    assert torch.equal(G[:, :5], G_before[:, :5] + upstream)
    assert torch.equal(G[:, 5:], G_before[:, 5:])
    assert torch.equal(grad, G[:, 3:5])
    (grad,) = torch.autograd.grad(output, input, upstream)  # G was not zeroed in between
    assert torch.equal(grad, G_before[:, 3:5] + upstream[:, 3:] + upstream[:, 3:])


@pytest.mark.parametrize("stitch", [stitchCopy, stitchLazy])
def test_a_gradient_of_the_size_of_g_replaces_what_is_there(stitch):
    L, G = new_buffers(5)
    input = draw(2, 2, 4, 3).requires_grad_()
    output = stitch(lying_in(L, 3, input), L, G, 3)
    for seed in (3, 4):
        upstream = draw(2, 5, 4, 3, seed=seed)
        (grad,) = torch.autograd.grad(output, input, upstream, retain_graph=True)
        assert torch.equal(G, upstream)
        assert torch.equal(grad, upstream[:, 3:])


@pytest.mark.parametrize("stitch", [stitchCopy, stitchLazy])
def test_a_gradient_that_was_handed_out_does_not_change_with_g(stitch):
    L, G = (buffer[:1] for buffer in new_buffers(1))
    input = draw(1, 1, 4, 3).requires_grad_()
    stitch(lying_in(L, 0, input), L, G, 0).sum().backward()
    G.fill_(7)
    assert torch.equal(input.grad, torch.ones_like(input))


def test_gradcheck():
    L, G = new_buffers(5)
    input = draw(2, 2, 4, 3).requires_grad_()

    def lazy(input: Tensor) -> Tensor:
        return stitchLazy(lying_in(L, 3, input), L, G, 3)

    assert torch.autograd.gradcheck(lambda x: stitchCopy(x, L, G, 3), input)
    assert torch.autograd.gradcheck(lazy, input)
    buffers = new_buffers(2)
    assert torch.autograd.gradcheck(lambda x: stitchCopy(x, *buffers, 0), input)
    slow = [input, draw(2, 3, 4, 3, seed=5).requires_grad_()]
    assert torch.autograd.gradcheck(stitchSlow, slow)
    assert torch.autograd.gradgradcheck(stitchSlow, slow)


@pytest.mark.parametrize("stitch", [stitchCopy, stitchLazy])
def test_a_second_derivative_is_refused(stitch):
    input = draw(2, 2, 4, 3).requires_grad_()
    L, G = new_buffers(2)
    output = stitch(lying_in(L, 0, input), L, G, 0)
    (grad,) = torch.autograd.grad(output.square().sum(), input, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_slow_concatenates_and_splits():
    first, second = draw(2, 1, 4, 3).requires_grad_(), draw(2, 3, 4, 3).requires_grad_()
    output = stitchSlow(first, second)
    assert torch.equal(output, torch.cat([first, second], dim=1))
    upstream = draw(2, 4, 4, 3, seed=3)
    output.backward(upstream)
    assert torch.equal(first.grad, upstream[:, :1])
    assert torch.equal(second.grad, upstream[:, 1:])
    second.requires_grad_(False)
    (grad,) = torch.autograd.grad(stitchSlow(first, second), first, upstream)
    assert torch.equal(grad, upstream[:, :1])


def make_layers() -> list[nn.Module]:
    """Ordinary layers of 1 and 2 channels, which stitch after an input of 2."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 1, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)]
    return [nn.Sequential(layer, nn.Tanh()).double() for layer in layers]


def run_copied(input: Tensor, layers: list[nn.Module], L: Tensor, G: Tensor) -> Tensor:
    features = stitchCopy(input, L, G, 0)
    for layer in layers:
        features = stitchCopy(layer(features), L, G, features.shape[1])
    return features


def run_slow(input: Tensor, layers: list[nn.Module]) -> Tensor:
    features = input
    for layer in layers:
        features = stitchSlow(features, layer(features))
    return features


def test_copied_layers_compute_what_concatenated_ones_do():
    layers = make_layers()
    input = draw(2, 2, 6, 7).requires_grad_()
    leaves = [input, *(parameter for layer in layers for parameter in layer.parameters())]
    expected, output = run_slow(input, layers), run_copied(input, layers, *new_buffers(5, (6, 7)))
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    upstream = draw(2, 5, 6, 7, seed=3)
    wanted = torch.autograd.grad(expected, leaves, upstream)
    for _ in range(2):
        grads = torch.autograd.grad(output, leaves, upstream, retain_graph=True)
        torch.testing.assert_close(grads, wanted, rtol=1e-12, atol=1e-12)


def test_a_buffer_larger_than_the_network_works_if_g_is_zeroed_before_backward():
    layers = make_layers()
    input = draw(2, 2, 6, 7).requires_grad_()
    L, G = new_buffers(9, (6, 7))
    output = run_copied(input, layers, L, G)
    upstream = draw(2, 5, 6, 7, seed=3)
    (wanted,) = torch.autograd.grad(run_slow(input, layers), input, upstream)
    for _ in range(2):
        G.zero_()
        (grad,) = torch.autograd.grad(output, input, upstream, retain_graph=True)
        torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=1e-12)


def test_backward_after_another_pass_through_the_buffer_is_noticed():
    layers = make_layers()
    buffers = new_buffers(5, (6, 7))
    first = run_copied(draw(2, 2, 6, 7), layers, *buffers)
    second = run_copied(draw(2, 2, 6, 7, seed=1), layers, *buffers)
    second.sum().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()


def test_backward_after_a_change_of_the_buffer_is_noticed():
    L, G = new_buffers(5, (6, 7))
    output = run_copied(draw(2, 2, 6, 7), make_layers(), L, G)
    L[:, 4:].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_buffers_may_require_a_gradient_of_which_nothing_comes():
    L, G = (buffer.requires_grad_() for buffer in new_buffers(5, (6, 7)))
    input, layers = draw(2, 2, 6, 7).requires_grad_(), make_layers()
    output = run_copied(input, layers, L, G)
    upstream = draw(2, 5, 6, 7, seed=3)
    (wanted,) = torch.autograd.grad(run_slow(input, layers), input, upstream)
    output.backward(upstream)
    torch.testing.assert_close(input.grad, wanted, rtol=1e-12, atol=1e-12)
    assert L.grad is None
    assert G.grad is None


@pytest.mark.parametrize("stitch", [stitchCopy, stitchLazy])
@pytest.mark.parametrize(("changes", "message"), [
    ({"i": 4}, "2 channels at channel 4 do not fit a buffer of 5 channels"),
    ({"i": -1}, "2 channels at channel -1 do not fit"),
    ({"G": torch.zeros(1, 5, 4, 4)}, r"G is \(1, 5, 4, 4\) .*; expected the same as L, \(1, 5"),
    ({"G": torch.zeros(1, 5, 4, 3).double()}, "G is .* torch.float64 on cpu; expected .*float32"),
    ({"input": torch.zeros(1, 2, 3, 4)}, r"input is \(1, 2, 3, 4\) .*, the buffer \(1, 5, 4, 3\)"),
    ({"input": torch.zeros(2, 2, 4, 3)}, r"input is \(2, 2, 4, 3\) .*, the buffer \(1, 5, 4, 3\)"),
    ({"input": torch.zeros(1, 2, 12)}, r"input is \(1, 2, 12\) .*StitchBuffer.like_"),
    ({"input": torch.zeros(1, 2, 4, 3).double()}, "input is .*float64 .*, the buffer .*float32"),
    ({"L": torch.zeros(1, 5, 4, 3, requires_grad=True) * 1}, "L is part of a graph, .*MulBackward"),
    ({"G": torch.zeros(1, 5, 4, 3, requires_grad=True) * 1}, "G is part of a graph, .*MulBackward"),
])  # fmt: skip
def test_buffers_that_do_not_fit_are_named(stitch, changes, message):
    arguments = {
        "input": torch.zeros(1, 2, 4, 3),
        "L": torch.zeros(1, 5, 4, 3),
        "G": torch.zeros(1, 5, 4, 3),
        "i": 0,
    }
    with pytest.raises(ValueError, match=message):
        stitch(**{**arguments, **changes})

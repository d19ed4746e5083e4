"""Layers that are fitted to a series piece by piece."""

import pytest
import torch
from torch import nn

from msdtool.nn.streaming import (
    Conv1d,
)
from tests.nn.streaming.examples import Sum
from tests.nn.streaming.test_convolution import filled, random


def data(frames=12):
    x = random(1, 1, frames, 2, 2)
    teacher = filled(Conv1d(1, 1, 3, bias=False), seed=7)
    return x, teacher(x).detach()


def test_an_optimizer_is_chosen_by_name_or_class():
    layer = Conv1d(1, 1, 3)
    assert isinstance(layer.set_optimizer.Adam(lr=0.5), torch.optim.Adam)
    assert layer.optimizer.param_groups[0]["lr"] == 0.5
    assert isinstance(layer.set_optimizer(torch.optim.SGD, lr=0.1), torch.optim.SGD)
    assert isinstance(layer.set_optimizer("RMSprop"), torch.optim.RMSprop)
    chosen = layer.set_optimizer.SGD([layer.bias], lr=0.1)
    assert chosen is layer.optimizer and chosen.param_groups[0]["params"] == [layer.bias]
    with pytest.raises(AttributeError, match="has no optimizer 'Adem'; did you mean 'Adam'"):
        layer.set_optimizer.Adem()
    with pytest.raises(AttributeError, match="has no optimizer 'Optimiser'"):
        layer.set_optimizer("Optimiser")


def test_fitting_without_an_optimizer_says_what_to_do():
    with pytest.raises(AssertionError, match=r"call set_optimizer\.SGD\(lr=0\.01\) first"):
        Conv1d().optimize(torch.ones(3), torch.ones(3))


@pytest.mark.parametrize("dt", [1, 2, 5, None])
def test_fitting_finds_the_filter_whatever_the_pieces(dt):
    x, y = data(200)
    layer = Conv1d(1, 1, 3, bias=False).double()
    layer.set_optimizer.Adam(lr=0.05)
    for _ in range(150 if dt is None else 4 * dt):
        layer.clear_state()
        losses = layer.optimize(x, y, dt=dt)
    assert len(losses) == (1 if dt is None else 200 // dt)
    assert max(losses) < 1e-3 * (y**2).sum() / len(losses)


def test_an_optimizer_that_evaluates_twice_starts_from_the_same_past():
    x, y = data()
    layer = filled(Conv1d(1, 1, 3))
    seen = []

    class Twice(torch.optim.SGD):
        def step(self, closure):
            seen.append((closure(), closure()))
            return seen[-1][0]

    losses = layer.optimize(x, y, Twice(layer.parameters(), lr=0.1), dt=2)
    assert [first for first, _ in seen] == [second for _, second in seen] == losses
    layer.clear_state()
    expected = ((layer(x) - y) ** 2).reshape(6, 2, 4).sum((1, 2))
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), expected)


def test_computing_the_loss_adds_up_gradients_and_changes_nothing():
    x, y = data()
    layer = filled(Conv1d(1, 1, 3))
    before = layer.weight.detach().clone()
    losses = layer.compute_loss(x, y, dt=4)
    gradient, total = layer.weight.grad, sum(losses)
    layer.clear_state()
    loss = ((layer(x) - y) ** 2).sum()
    torch.testing.assert_close(torch.tensor(total, dtype=torch.float64), loss.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, layer.weight)[0])
    assert torch.equal(layer.weight, before)


def test_skipped_frames_are_run_and_not_fitted():
    x, y = data()
    y[:, :, 2:7] = 1e6  # t=2 leaves out two frames, t_skip five more
    layer = filled(Conv1d(1, 1, 3))
    losses = layer.compute_loss(x, y, dt=3, t=2, t_skip=5)
    layer.clear_state()
    expected = ((layer(x[:, :, 2:]) - y[:, :, 2:])[:, :, 5:] ** 2).sum()
    assert len(losses) == 2
    torch.testing.assert_close(torch.tensor(sum(losses), dtype=torch.float64), expected)


def test_the_loss_can_be_chosen_and_sizes_must_agree():
    x, y = data()
    layer = filled(Conv1d(1, 1, 3))
    (loss,) = layer.compute_loss(x, y, loss_fn=nn.functional.l1_loss)
    layer.clear_state()
    assert loss == pytest.approx((layer(x) - y).abs().mean().item())
    with pytest.raises(ValueError, match="the input has 12 frames, the target 11"):
        layer.compute_loss(x, y[:, :, 1:])


def test_a_graph_in_the_state_ends_at_each_piece():
    layer = Sum()
    layer.set_optimizer.SGD(lr=1e-3)
    x = random(6, 1, 1)
    assert len(layer.optimize(x, 2 * x.cumsum(0), dt=2)) == 3  # else: a second backward

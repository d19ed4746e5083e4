import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msdtool.nn.streaming import (
    LN,
    Conv1d,
    Conv3d,
    Delay,
    Layer,
    NLRectify,
    NLSquare,
    Output,
    TemporalLowPassFilterRecursive,
    TimePadding,
)
from tests.nn.streaming.test_convolution import filled, random


class Sum(Layer):
    """Running sum, whose state is a tensor in its graph, a list and a number."""

    dim = 3
    outputs = ("total", "count")

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.register_state("sum", None)
        self.register_state("lengths", [])

    def forward(self, x):
        sums = (self.weight * x).cumsum(0)
        if self.sum is not None:
            sums = sums + self.sum
        self.sum = sums[-1:]
        self.lengths.append(len(x))
        self.total = sums.sum((1, 2))
        self.count = torch.ones(len(x))
        return sums


class Nested(Layer):
    """Layers inside layers and inside torch's own containers."""

    dim = 5

    def __init__(self):
        super().__init__()
        self.first = filled(Conv3d(1, 2, (3, 3, 1)))
        self.rest = nn.Sequential(
            nn.ReLU(),
            filled(Conv1d(2, 1, 4, dilation=2)),
            Delay(3),
            TemporalLowPassFilterRecursive().double(),
        )

    def forward(self, x):
        return self.rest(self.first(x))


LAYERS = {
    "nested": Nested,
    "delay": lambda: Delay(4),
    "delay in a longer memory": lambda: Delay(2, 5),
    "low pass": lambda: TemporalLowPassFilterRecursive(0.003).double(),
    "LN": lambda: filled(LN(1, 1, (4, 1, 2))),
    "sum": Sum,
    "rectify": NLRectify,
    "square": NLSquare,
}


# One call or many -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@settings(deadline=None, max_examples=15)
@given(T=st.integers(1, 12), dt=st.integers(1, 13))
def test_cutting_a_series_never_changes_the_result(name, T, dt):  # noqa: N803
    layer, x = LAYERS[name](), random(1, 1, T, 3, 2)
    whole = layer(x)
    layer.clear_state()
    cut = layer.run(x, dt=dt)
    for one, other in zip(whole if isinstance(whole, Output) else [whole], cut, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_run_takes_a_range_of_frames():
    x = random(1, 1, 20, 2, 2)
    layer = filled(Conv1d(1, 1, 3))
    expected = layer(x[:, :, 4:15])
    for arguments in ({"dt": 6}, {"dt": None}, {"dt": 100}):
        layer.clear_state()
        found = layer.run(x, t=4, max_t=15, **arguments)[0]
        assert found.shape[2] == 11
        torch.testing.assert_close(found, expected)


def test_a_run_of_an_output_can_be_cut_off_from_its_graph():
    layer, x = filled(Conv1d(1, 1, 3)), random(5).requires_grad_()
    output = NLSquare().run(x)
    assert isinstance(output, Output) and output.output is output[0]
    with pytest.raises(RuntimeError, match="does not require grad"):
        NLSquare().run(output, dt=2)[0].sum().backward()
    layer.run(output, dt=2, detach=False)[0].sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0}, "dt is 0; expected at least 1 frame"),
        ({"t": 5}, "no frames from 5 to 5 in 5"),
        ({"t": 3, "max_t": 2}, "no frames from 3 to 2 in 5"),
        ({"t": -1}, "no frames from -1 to 5 in 5"),
    ],
)
def test_a_range_without_frames_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NLSquare().run(torch.ones(5), **arguments)


# Axes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (6, 3, 2), (2, 1, 6, 3, 2)])
def test_series_of_1_3_and_5_axes_are_taken(shape):
    layer, x = filled(Conv3d(1, 1, (3, 3, 3))), random(*shape)
    full = {1: x[:, None, None], 3: x, 5: x}[len(shape)]
    expected = layer(full if len(shape) == 5 else full[None, None])
    layer.clear_state()
    torch.testing.assert_close(layer(x), expected)
    layer.clear_state()
    torch.testing.assert_close(layer.run(x, dt=4)[0], expected)


def test_arrays_and_lists_become_float32():
    output = NLSquare()(np.array([1.0, 2.0]))
    assert output.dtype == torch.float32 and output.shape == (1, 1, 2, 1, 1)
    assert NLSquare()([1, 2]).flatten().tolist() == [1, 4]


class OfAxes(Layer):
    def __init__(self, dim):
        self.dim = dim  # may be set before the rest
        super().__init__()

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("dim", "given", "wanted"),
    [
        (1, (4, 1, 1), (4,)),
        (1, (1, 1, 4, 1, 1), (4,)),
        (3, (4,), (4, 1, 1)),
        (3, (1, 1, 4, 2, 3), (4, 2, 3)),
        (None, (4, 2), (4, 2)),
    ],
)
def test_a_layer_gets_the_axes_it_declares(dim, given, wanted):
    assert OfAxes(dim)(torch.ones(given)).shape == wanted


def test_axes_may_be_declared_as_the_original_reads_them():
    class Old(OfAxes):
        dims = 5

    layer = Old(None)
    assert layer(torch.ones(4, 2, 3)).shape == (1, 1, 4, 2, 3)
    assert layer.run(torch.ones(4, 2, 3), dt=3)[0].shape == (1, 1, 4, 2, 3)


@pytest.mark.parametrize(
    ("dim", "shape", "message"),
    [
        (5, (4, 4), r"input has shape \(4, 4\); expected a series \[T\], \[T, X, Y\] or \[B, C"),
        (5, (1, 4, 4, 4), r"input has shape \(1, 4, 4, 4\); expected a series"),
        (3, (2, 1, 4, 3, 3), r"\(2, 1, 4, 3, 3\); the layer takes series of 3 axes"),
        (1, (4, 2, 1), r"\(4, 2, 1\); the layer takes series of 1 axes"),
    ],
)
def test_other_axes_are_refused(dim, shape, message):
    for apply in (OfAxes(dim), OfAxes(dim).run):
        with pytest.raises(ValueError, match=message):
            apply(torch.ones(shape))


# State ----------------------------------------------------------------------------------------


def test_state_is_returned_by_dotted_name_and_is_no_part_of_the_state_dict():
    layer = Nested()
    layer(random(5))
    assert list(layer.get_state()) == [
        "first.history",
        "first.num_frames",
        "rest.1.history",
        "rest.1.num_frames",
        "rest.2.pad.history",
        "rest.3.last",
    ]
    assert not any("history" in name for name in layer.state_dict())
    layer.clear_state()
    assert set(layer.get_state().values()) == {None, 0}


def test_a_saved_state_goes_on_elsewhere(tmp_path):
    layer, x = Nested(), random(12)
    expected = layer.run(x)[0][:, :, 5:]
    layer.clear_state()
    layer(x[:5])
    torch.save(layer.get_state(), tmp_path / "state")
    other = Nested()
    other.set_state(torch.load(tmp_path / "state"))
    torch.testing.assert_close(other.run(x[5:], dt=2)[0], expected)


def test_pushed_states_are_values_not_references():
    layer, x = Sum(), random(6, 1, 1)
    layer(x[:2])
    before = layer.sum.tolist()
    layer.push_state()
    layer.sum += 100  # even in place
    layer.pop_state()
    layer.push_state()
    first = layer(x[2:4])[0].clone()
    layer.push_state()
    layer.pop_state()
    layer.pop_state()
    assert layer.lengths == [2] and layer.sum.tolist() == before
    torch.testing.assert_close(layer(x[2:4])[0], first)
    with pytest.raises(IndexError, match="no state to return to; push first"):
        layer.pop_state()
    layer.clear_state()
    layer.lengths.append(1)
    layer.clear_state()
    assert layer.lengths == []


def test_a_detached_state_ends_the_graph():
    layer = Sum()
    layer(random(2, 1, 1))
    assert layer.sum.requires_grad
    layer.detach_state()
    assert not layer.sum.requires_grad


def test_a_state_of_another_layer_is_refused():
    with pytest.raises(ValueError, match="there is no state 'history'; there are: sum, lengths"):
        Sum().set_state({"history": None})


def test_a_layer_can_be_copied_in_mid_series():
    layer, x = Nested(), random(9)
    layer(x[:4])
    other = copy.deepcopy(layer)
    torch.testing.assert_close(other(x[4:]), layer(x[4:]))


# Outputs --------------------------------------------------------------------------------------


def test_outputs_are_found_by_number_and_name():
    output = Sum()(torch.ones(3, 2, 2))
    assert len(output) == 3 and output.keys == ["output", "total", "count"]
    assert output.total is output["total"] is output[1] is list(output)[1]
    assert output.array("total").tolist() == [4.0, 8.0, 12.0]
    assert output.mean(k=1) == 8 and output.mean(axis=(0, 1)).shape == (2,)
    assert copy.deepcopy(Output([torch.ones(2)], ["a"])).a.tolist() == [1, 1]
    with pytest.raises(IndexError, match="Key not found: 'sum'; there are: output, total, count"):
        output["sum"]
    with pytest.raises(AttributeError, match="has no 'sum'"):
        _ = output.sum
    with pytest.raises(ValueError, match="got 1 names for 2 outputs"):
        Output([torch.ones(1)] * 2, ["a"])


def test_an_output_that_is_no_series_cannot_be_joined():
    layer = Sum()
    layer.outputs = ("weight",)
    with pytest.raises(ValueError, match=r"an output has shape \(\), which is no series"):
        layer.run(torch.ones(3), dt=2)


# Parameters -----------------------------------------------------------------------------------


def test_parameters_are_saved_pushed_and_popped_by_value(tmp_path):
    layer = filled(Conv3d(1, 2, (2, 3, 3)))
    kept = copy.deepcopy(layer.state_dict())
    layer.save_parameters(tmp_path / "parameters.npz")
    optimizer = layer.set_optimizer.SGD(lr=0.1)
    layer.push_all()
    layer(random(5))
    layer.set_weight(np.ones(7))
    layer.pop_all()
    assert layer.history is None
    for name, value in layer.state_dict().items():
        assert torch.equal(value, kept[name])
    assert optimizer.param_groups[0]["params"][0] is layer.weight
    other = Conv3d(1, 2, (2, 3, 3)).double()
    other.load_parameters(tmp_path / "parameters.npz")
    assert torch.equal(other.weight, kept["weight"])
    with pytest.raises(RuntimeError, match="size mismatch"):
        Conv3d(1, 2, (3, 3, 3)).load_parameters(tmp_path / "parameters.npz")
    with pytest.raises(IndexError, match="no parameters to return to"):
        layer.pop_parameters()


# Training -------------------------------------------------------------------------------------


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


# Filters --------------------------------------------------------------------------------------


def test_a_delay_gives_earlier_frames():
    x = random(1, 1, 6, 1, 1)
    expected = x[:, :, [0, 0, 0, 0, 1, 2]]
    assert torch.equal(Delay(3)(x), expected) and torch.equal(Delay(3, 5)(x), expected)
    assert torch.equal(Delay()(x), x)
    with pytest.raises(ValueError, match="delay is 3; expected 0 to length, which is 2"):
        Delay(3, 2)
    with pytest.raises(ValueError, match="length is -1; expected 0 or more"):
        TimePadding(-1)


def test_the_low_pass_follows_its_recursion_and_keeps_a_constant():
    x, tau = random(1, 1, 50, 1, 1), 0.01
    e, y, expected = np.exp(-0.1), 0.0, []
    for value in x.flatten().tolist():
        y = value * (1 + e) + y * e
        expected.append(y / 20)
    layer = TemporalLowPassFilterRecursive(tau).double()
    found = layer(x).detach().flatten().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    layer.clear_state()
    assert layer(torch.ones(1, 1, 500, 1, 1))[0, 0, -1].item() == pytest.approx(1, rel=2e-3)


def test_rectifiers_and_squares():
    x = torch.tensor([-2.0, 3.0])
    assert NLRectify()(x).flatten().tolist() == [0, 3]
    assert NLSquare()(x).flatten().tolist() == [4, 9]
    layer = LN(1, 1, 1, bias=False)
    layer.set_weight(-1.0)
    assert layer(x).flatten().tolist() == [2, 0]

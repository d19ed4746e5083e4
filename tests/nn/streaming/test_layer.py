"""Layers that process a series piece by piece: runs, axes and outputs."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
)
from tests.nn.streaming.examples import Nested, Sum
from tests.nn.streaming.test_convolution import filled, random

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


def test_outputs_are_found_by_number_and_name():
    output = Sum()(torch.ones(3, 2, 2))
    assert len(output) == 3 and output.keys == ["output", "total", "count"]
    assert output.total is output["total"] is output[1] is list(output)[1]
    assert output.array("total").tolist() == [4.0, 8.0, 12.0]
    assert output.mean(k=1) == 8 and output.mean(axis=(0, 1)).shape == (2,)
    assert copy.deepcopy(Output([torch.ones(2)], ["a"])).a.tolist() == [1, 1]
    with pytest.raises(IndexError, match="Key not found: 'sum'; allowed: output, total, count"):
        output["sum"]
    with pytest.raises(AttributeError, match="has no 'sum'"):
        _ = output.sum
    with pytest.raises(ValueError, match="got 1 names for 2 outputs"):
        Output([torch.ones(1)] * 2, ["a"])


def test_an_output_that_is_not_a_series_cannot_be_joined():
    layer = Sum()
    layer.outputs = ("weight",)
    with pytest.raises(ValueError, match=r"an output has shape \(\), which is not a series"):
        layer.run(torch.ones(3), dt=2)

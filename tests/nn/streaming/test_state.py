"""The state and the parameters of a layer, which can be saved, set and returned to."""

import copy

import numpy as np
import pytest
import torch

from msdtool.nn.streaming import (
    Conv3d,
)
from tests.nn.streaming.examples import Nested, Sum
from tests.nn.streaming.test_convolution import filled, random


def test_state_is_returned_by_dotted_name_and_is_not_part_of_the_state_dict():
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


def test_a_saved_state_continues_elsewhere(tmp_path):
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
    with pytest.raises(IndexError, match="no state to restore; push first"):
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
    with pytest.raises(ValueError, match="there is no state 'history'; allowed: sum, lengths"):
        Sum().set_state({"history": None})


def test_a_layer_can_be_copied_in_mid_series():
    layer, x = Nested(), random(9)
    layer(x[:4])
    other = copy.deepcopy(layer)
    torch.testing.assert_close(other(x[4:]), layer(x[4:]))


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
    with pytest.raises(IndexError, match="no parameters to restore"):
        layer.pop_parameters()

"""Labels, shapes and arguments that models refuse."""

import pytest
import torch

from msdtool import InputError, MSDRegressionModel
from msdtool.data import IGNORED
from msdtool.nn import MSDModule
from tests.models.making import both_tasks, make_batch, make_model


def test_l1_is_the_mean_absolute_error():
    model, (input, target) = make_model(loss="L1"), make_batch()
    assert model.forward(input, target).item() == pytest.approx(target.abs().mean().item())
    with pytest.raises(InputError, match="loss is 'L3'; allowed: L1, L2"):
        make_model(loss="L3")


def test_asking_too_early_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"no input or no target; give them to forward\(\)"):
        make_model().forward()
    with pytest.raises(RuntimeError, match="no loss yet"):
        make_model().get_loss()


@both_tasks
def test_no_batches_is_an_error(task):
    model = make_model(task)
    for method in (model.validate, model.set_normalization, lambda b: model.train(b, 1)):
        with pytest.raises(InputError, match="the data loader has no batches"):
            method([])


@pytest.mark.parametrize("wrong", [-1, 3, 255, 0.5, float("nan")])
@pytest.mark.parametrize("way", ["set_target", "forward", "learn", "train", "validate"])
def test_labels_out_of_range_are_named(way, wrong):
    model, (input, target) = make_model("segmentation"), make_batch("segmentation")
    if isinstance(wrong, float):
        target = target.float()
    target[0, 0, 1, 2] = wrong
    ways = {
        "set_target": lambda: model.set_target(target),
        "forward": lambda: model.forward(input, target),
        "learn": lambda: model.learn(input, target),
        "train": lambda: model.train([(input, target)], 1),
        "validate": lambda: model.validate([(input, target)]),
    }
    with pytest.raises(InputError, match=rf"values from {wrong} to {wrong} .* 0 to 2, and -100"):
        ways[way]()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_labels_of_any_dtype_are_class_indices(dtype):
    model, (input, target) = make_model("segmentation"), make_batch("segmentation")
    loss = model.forward(input, target).item()
    assert model.forward(input, target.to(dtype)).item() == loss


def test_labels_that_do_not_count_are_allowed():
    model, (input, target) = make_model("segmentation"), make_batch("segmentation")
    target[0] = IGNORED
    expected = model.forward(input[1:], target[1:]).item()
    assert model.forward(input, target).item() == pytest.approx(expected, rel=1e-6)


@both_tasks
@pytest.mark.parametrize("spoil", [
    lambda image, target: (image[:, :1], target),
    lambda image, target: (image[0], target),
    lambda image, target: (image, torch.cat([target, target], 1)),
    lambda image, target: (image, target[..., 0]),
    lambda image, target: (image, target[:, :, :1]),
    lambda image, target: (image, target[:1]),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_named(task, spoil):
    model, pair = make_model(task), spoil(*make_batch(task))
    for way in (
        lambda: model.forward(*pair),
        lambda: model.learn(*pair),
        lambda: model.validate([pair]),
        lambda: model.train([pair], 1),
    ):
        with pytest.raises(InputError, match=r"has shape|have shape|has \d channels"):
            way()


@pytest.mark.parametrize(("wrong", "message"), [
    ({"depth": 0}, "depth is 0; allowed: 1 or more"),
    ({"width": 0}, "width is 0; allowed: 1 or more"),
    ({"c_in": 0}, "c_in is 0; allowed: 1 or more"),
    ({"c_out": 0}, "c_out is 0; allowed: 1 or more"),
    ({"ndim": 4}, "ndim is 4; allowed: 2, 3"),
    ({"padding": "wrap"}, "padding is 'wrap'; allowed: symmetric"),
    ({"dilations": []}, "dilations is empty"),
    ({"dilations": [1, 0]}, "dilation 0 is not a positive integer"),
    ({"dilations": [1.5]}, "dilation 1.5 is not a positive integer"),
])  # fmt: skip
def test_a_network_that_cannot_be_is_refused_at_construction(wrong, message):
    arguments = {"c_in": 1, "c_out": 1, "depth": 2, "width": 1, **wrong}
    with pytest.raises(InputError, match=message):
        MSDRegressionModel(**arguments)
    with pytest.raises(ValueError, match=message):
        MSDModule(**arguments)


def test_input_errors_are_value_errors():
    with pytest.raises(ValueError, match="loss is 'L3'"):
        make_model(loss="L3")

"""The semifield convolutions against the numbers of the original library."""

import math
import operator

import pytest
import torch
from torch import nn

from msdtool.nn import semifield
from msdtool.nn.semifield import BroadcastSemifield, GenericClosing, GenericConv, SelectSemifield

from ...golden import FOLDER, Case

CASES = sorted(path.stem for path in (FOLDER / "semiconv").glob("*.json"))
SEMIFIELDS = ("BroadcastSemifield", "SelectSemifield", "SubtractSemifield")
BY_HAND = {
    "bcast_manual_fuzzy": lambda: BroadcastSemifield(
        lambda terms, dims: torch.amax(terms, dim=dims),
        torch.minimum,
        -math.inf,
        lambda terms, dim: torch.mean(terms, dim=dim),
    ).dynamic(),
    "select_manual_max_times": lambda: SelectSemifield(
        lambda left, right: left < right,
        operator.mul,
        lambda img, kernel: kernel,
        lambda img, kernel: img,
        0,
    ).dynamic(),
}


def make(case: Case, name: str) -> nn.Module:
    ctor = dict(case.description["ctor"])
    target = case.description["target"].split("(")[0].split(".")[0]
    if name in BY_HAND:
        return BY_HAND[name]()
    if target in SEMIFIELDS:
        factory = getattr(getattr(semifield, target), ctor["factory"])
        return factory(**ctor["factory_kwargs"]).dynamic(**ctor.get("dynamic_kwargs", {}))
    if target == "GenericClosing":
        dilation = getattr(BroadcastSemifield, ctor["dilation_factory"])(**ctor["dil_kwargs"])
        erosion = getattr(BroadcastSemifield, ctor["erosion_factory"])(**ctor["ero_kwargs"])
        sizes = {"padding": ctor["padding"], "groups": ctor["groups"]}
        return GenericClosing(kernel(ctor), dilation.dynamic(), erosion.dynamic(), **sizes)
    if target == "GenericConv":
        made = getattr(BroadcastSemifield, ctor.pop("factory"))(**ctor.pop("factory_kwargs"))
        return GenericConv(kernel(ctor), made.dynamic(), **ctor)
    return getattr(semifield, target)(*ctor.pop("args", ()), **ctor)


def kernel(ctor: dict) -> nn.Module:
    described = ctor.pop("kernel")
    return getattr(semifield, described["cls"])(*described["args"])


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_the_originals(name):
    case = Case("semiconv", name)
    module = make(case, name).double()
    module.load_state_dict(case.state())
    inputs = [tensor.requires_grad_() for tensor in case.group("in").values()]
    output = module(*inputs, **case.description["call"])
    case.assert_close(output, "out.0")
    output.backward(case["gy.0"])
    for number, input in enumerate(inputs):
        case.assert_close(input.grad, f"grad.in.{number}")
    for parameter, value in module.named_parameters():
        case.assert_close(value.grad, f"grad.param.{parameter}")


@pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith(("sel", "sub")) and name not in BY_HAND]
)
def test_the_fixed_form_gives_the_same_call_after_call(name):
    case = Case("semiconv", name)
    ctor = case.description["ctor"]
    target = case.description["target"].split(".")[0]
    conv = getattr(getattr(semifield, target), ctor["factory"])(**ctor["factory_kwargs"])
    fixed = conv.lazy_fixed()
    for _ in range(2):
        case.assert_close(fixed(case["in.0"], case["in.1"], **case.description["call"]), "out.0")


def test_there_are_cases():
    assert len(CASES) == 26

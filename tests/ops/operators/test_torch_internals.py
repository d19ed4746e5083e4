"""A torch that lacks one of its private names still computes networks and their gradients."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from msdtool import ops
from msdtool.ops.operators import is_plain, torch_internals
from tests.ops.formula import Problem, largest_difference, make_problem, module_formula

ROOT = Path(ops.__file__).parent
NAMES = [
    ("_C", "_are_functorch_transforms_active"),
    ("_C", "_len_torch_dispatch_stack"),
    ("_C", "_AutoDispatchBelowAutograd"),
    ("profiler", "_is_profiler_enabled"),
    ("forward_ad", "_current_level"),
    ("forward_ad", "_set_fwd_grad_enabled"),
    ("functorch", "enable_single_level_autograd_function"),
]
# What torch.func cannot do without; the rest is only slower.
NEEDED = {
    "_AutoDispatchBelowAutograd",
    "_set_fwd_grad_enabled",
    "enable_single_level_autograd_function",
}


class Without:
    """A module of torch as it is seen without one of its names."""

    def __init__(self, module: Any, name: str) -> None:
        assert hasattr(module, name)
        self.module, self.name = module, name

    def __getattr__(self, name: str) -> Any:
        if name == self.name:
            raise AttributeError(name)
        return getattr(self.module, name)


@pytest.fixture(params=NAMES, ids=".".join)
def lacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    module, name = request.param
    whole = getattr(torch_internals, module)
    monkeypatch.setattr(torch_internals, module, Without(whole, name))
    return name


def small_problem() -> Problem:
    return make_problem((6, 7), 3, c_out=2, batch=2)


def gradients(output: Tensor, problem: Problem) -> list[Tensor]:
    return list(torch.autograd.grad(output.square().sum(), problem.leaves()))


def test_calls_and_gradients_equal_the_formula(lacking: str) -> None:
    problem = small_problem()
    output = ops.msd_module(*problem.module_arguments(), impl="torch")
    formula = module_formula(problem)
    assert largest_difference(output, formula) < 1e-12
    for found, expected in zip(
        gradients(output, problem), gradients(formula, problem), strict=True
    ):
        assert largest_difference(found, expected) < 1e-10
    with torch.no_grad():
        inferred = ops.msd_module(*problem.module_arguments(), impl="torch")
    assert largest_difference(inferred, formula.detach()) < 1e-12


def test_transformations_are_right_or_refused(lacking: str) -> None:
    problem = small_problem()
    input, *rest = problem.module_arguments()

    def loss(input: Tensor) -> Tensor:
        return ops.msd_module(input, *rest, impl="torch").square().sum()

    if lacking in NEEDED:
        with pytest.raises(NotImplementedError, match=f"no torch.*{lacking}, without which"):
            torch.func.grad(loss)(input)
        return
    (expected,) = torch.autograd.grad(module_formula(problem).square().sum(), problem.input)
    assert largest_difference(torch.func.grad(loss)(input).detach(), expected) < 1e-10


def test_second_derivatives_are_refused(lacking: str) -> None:
    problem = small_problem()
    output = ops.msd_module(*problem.module_arguments(), impl="torch").square().sum()
    with pytest.raises((RuntimeError, NotImplementedError), match=r"second derivatives|has no"):
        (grad,) = torch.autograd.grad(output, problem.input, create_graph=True)
        grad.square().sum().backward()


@pytest.mark.parametrize("name", ["_are_functorch_transforms_active", "_len_torch_dispatch_stack"])
def test_where_torch_does_not_tell_calls_take_the_way_through_the_dispatcher(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.zeros(1)
    assert is_plain(image)
    monkeypatch.setattr(torch_internals, "_C", Without(torch_internals._C, name))
    assert not is_plain(image)


def test_no_other_module_of_ops_uses_private_names_of_torch() -> None:
    private = re.compile(
        r"torch\.(?!ops\.)(?:\w+\.)*_[a-zA-Z]|\bforward_ad\._|\bprofiler\._|\b_C\._"
    )
    using = {path.name for path in ROOT.rglob("*.py") if private.search(path.read_text())}
    assert using == {"torch_internals.py"}

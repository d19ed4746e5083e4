"""The check must pass on the engine as it is, and fail on one that is wrong anywhere."""

import pytest
import torch

from msdtool import ops
from msdtool.bench import correctness
from msdtool.bench.cases import Case
from msdtool.bench.correctness import check_engine, relative_errors
from msdtool.errors import Error

CPU = torch.device("cpu")
right = ops.msd_module


class WrongGradient(torch.autograd.Function):
    """Leaves values alone and changes one gradient a little."""

    @staticmethod
    def forward(ctx, tensor):
        return tensor.clone()

    @staticmethod
    def backward(ctx, grad):
        grad = grad.clone()
        grad.flatten()[-1] *= 1.001
        return grad


def replace_engine(monkeypatch, change):
    """Let ``change`` make the engine wrong; the reference stays right."""

    def wrong(*arguments, impl="auto"):
        if impl == "reference":
            return right(*arguments, impl=impl)
        return change(*arguments)

    monkeypatch.setattr(ops, "msd_module", wrong)


@pytest.fixture
def few_cases(monkeypatch):
    monkeypatch.setattr(correctness, "SMALL", (Case((11, 13), depth=5), Case((5, 6, 7), depth=3)))
    monkeypatch.setattr(correctness, "LARGE", ())


def test_the_engine_is_right():
    errors = check_engine(CPU)
    assert set(errors) == {"float64", "float32"}
    assert 0 < errors["float64"] < 1e-10
    assert 0 < errors["float32"] < 2e-5


def test_every_dimension_padding_and_type_is_checked(monkeypatch):
    seen = set()

    def record(case, dtype, device):
        seen.add((case.ndim, case.padding, dtype))
        return {"the output": 0.0}

    monkeypatch.setattr(correctness, "relative_errors", record)
    check_engine(CPU)
    assert seen == {
        (ndim, padding, dtype)
        for ndim in (2, 3)
        for padding in ("symmetric", "reflect", "zeros")
        for dtype in (torch.float32, torch.float64)
    }


def test_the_cases_have_odd_sizes():
    assert all(
        any(size % 2 for size in case.space) for case in (*correctness.SMALL, *correctness.LARGE)
    )


def test_outputs_and_all_gradients_are_compared():
    errors = relative_errors(Case((11, 13), depth=3, width=2), torch.float64, CPU)
    assert len(errors) == 1 + 3 + 1 + 2 + 1
    assert {"the output", "the gradient by weight2", "the gradient by the input"} <= set(errors)


@pytest.mark.usefixtures("few_cases")
def test_a_wrong_output_is_refused(monkeypatch):
    replace_engine(monkeypatch, lambda *arguments: right(*arguments) * 1.0001)
    with pytest.raises(Error, match=r"the output differs .* by 0\.0001 .*11 x 13") as caught:
        check_engine(CPU)
    assert caught.value.exit_code == 1


@pytest.mark.usefixtures("few_cases")
def test_one_wrong_pixel_is_refused(monkeypatch):
    def change(*arguments):
        output = right(*arguments)
        return output + 1e-3 * torch.eye(*output.shape[-2:])

    replace_engine(monkeypatch, change)
    with pytest.raises(Error, match="the output differs"):
        check_engine(CPU)


@pytest.mark.usefixtures("few_cases")
def test_another_border_rule_is_refused(monkeypatch):
    def change(*arguments):
        return right(*arguments[:-1], "reflect")

    replace_engine(monkeypatch, change)
    with pytest.raises(Error, match="symmetric padding"):
        check_engine(CPU)


@pytest.mark.usefixtures("few_cases")
@pytest.mark.parametrize(
    ("position", "name"), [(0, "the input"), (2, "bias"), (3, "the final layer's weight")]
)
def test_a_wrong_gradient_is_refused(monkeypatch, position, name):
    def change(*arguments):
        arguments = list(arguments)
        arguments[position] = WrongGradient.apply(arguments[position])
        return right(*arguments)

    replace_engine(monkeypatch, change)
    with pytest.raises(Error, match=f"the gradient by {name} differs"):
        check_engine(CPU)


@pytest.mark.usefixtures("few_cases")
def test_a_wrong_weight_gradient_is_refused(monkeypatch):
    def change(input, weights, *others):
        return right(input, [*weights[:-1], WrongGradient.apply(weights[-1])], *others)

    replace_engine(monkeypatch, change)
    with pytest.raises(Error, match="the gradient by weight4 differs"):
        check_engine(CPU)


@pytest.mark.usefixtures("few_cases")
def test_what_is_not_a_number_is_refused(monkeypatch):
    replace_engine(monkeypatch, lambda *arguments: right(*arguments) * float("nan"))
    with pytest.raises(Error, match="by nan"):
        check_engine(CPU)

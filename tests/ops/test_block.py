"""msd_block and msd_module against the formula, and their behaviour under autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool import ops
from msdtool.border import PADDINGS
from tests.ops.each_engine import each_engine
from tests.ops.formula import (
    Problem,
    block_formula,
    largest_difference,
    make_problem,
    module_formula,
    problems,
)

EXACT = {torch.float64: 1e-10, torch.float32: 2e-5}


def check_module(problem: Problem, dtype: torch.dtype, impl: str) -> None:
    """Output and every gradient of msd_module equal the formula's in float64."""
    expected = module_formula(problem)
    upstream = torch.randn(
        expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    expected_grads = torch.autograd.grad(expected, problem.leaves(), upstream)
    cast = problem.to(dtype)
    output = ops.msd_module(*cast.module_arguments(), impl=impl)
    grads = torch.autograd.grad(output, cast.leaves(), upstream.to(dtype))
    assert largest_difference(output, expected) < EXACT[dtype]
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert largest_difference(grad, expected_grad) < EXACT[dtype]


@each_engine
@settings(max_examples=80, deadline=None, derandomize=True)
@given(problem=problems(largest=(14, 7), max_batch=2))
def test_any_network_equals_the_formula_in_float64(problem: Problem, impl: str) -> None:
    check_module(problem, torch.float64, impl)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(problem=problems(largest=(14, 7), max_batch=2), tile_bytes=st.integers(1, 20_000))
def test_tiles_of_any_size_equal_the_formula(problem: Problem, tile_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("msdtool.ops.cpu.blocked.STACK_BYTES", tile_bytes)
        check_module(problem, torch.float64, "torch")


@each_engine
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("space", "depth"), [((40, 37), 24), ((10, 9, 11), 9)])
def test_float32_equals_the_formula(
    space: tuple[int, ...], depth: int, padding: str, impl: str
) -> None:
    check_module(
        make_problem(space, depth, dilations=(1, 4, 8), padding=padding), torch.float32, impl
    )


@each_engine
def test_sums_over_many_pixels_keep_their_digits(impl: str) -> None:
    """The gradient by the bias is the final weight, 0.1, times nine million pixels."""
    weight, bias = torch.zeros(1, 1, 3, 3), torch.ones(1, requires_grad=True)
    final_weight = torch.full((1, 2, 1), 0.1)
    image = torch.zeros(1, 1, 3000, 3000)
    output = ops.msd_module(image, [weight], bias, final_weight, torch.zeros(1), [1], impl=impl)
    output.sum().backward()
    assert bias.grad.item() == pytest.approx(0.1 * 3000**2, rel=2e-6)


@pytest.mark.parametrize("impl", ["auto", "torch", "reference"])
def test_block_equals_the_formula(impl: str) -> None:
    problem = make_problem((9, 11), width=2, c_in=2, batch=2)
    expected = block_formula(problem)
    upstream = torch.randn_like(expected)
    leaves = [problem.input, problem.bias, *problem.weights]
    output = ops.msd_block(*problem.block_arguments(), impl=impl)
    assert largest_difference(output, expected) < 1e-10
    expected_grads = torch.autograd.grad(expected, leaves, upstream)
    for grad, wanted in zip(
        torch.autograd.grad(output, leaves, upstream), expected_grads, strict=True
    ):
        assert largest_difference(grad, wanted) < 1e-10


@each_engine
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("space", [(5, 4), (4, 3, 4)])
def test_gradcheck(space: tuple[int, ...], padding: str, impl: str) -> None:
    problem = make_problem(space, 3, dilations=(1, 2), padding=padding)
    with torch.no_grad():
        problem.bias += 4.0  # far from the kink of the ReLU

    def module(input: torch.Tensor, bias: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        final_weight, final_bias, *weights = rest
        return ops.msd_module(input, weights, bias, final_weight, final_bias, [1, 2], padding, impl)

    assert torch.autograd.gradcheck(module, problem.leaves())


@each_engine
def test_second_derivative_is_refused(impl: str) -> None:
    problem = make_problem((6, 6))
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    (grad,) = torch.autograd.grad(output.square().sum(), problem.input, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        grad.sum().backward()


@each_engine
@pytest.mark.parametrize("frozen", range(9))
def test_frozen_parameters_get_no_gradient_and_change_no_other(frozen: int, impl: str) -> None:
    problem = make_problem((7, 8), width=2)
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    all_grads = torch.autograd.grad(output.sum(), problem.leaves())
    problem.leaves()[frozen].requires_grad_(False)
    ops.msd_module(*problem.module_arguments(), impl=impl).sum().backward()
    for index, (leaf, grad) in enumerate(zip(problem.leaves(), all_grads, strict=True)):
        if index == frozen:
            assert leaf.grad is None
        else:
            assert torch.equal(leaf.grad, grad)


@each_engine
def test_only_one_weight_trains(impl: str) -> None:
    problem = make_problem((7, 8), 12)
    expected = torch.autograd.grad(module_formula(problem).sum(), problem.weights[4])[0]
    for leaf in problem.leaves():
        leaf.requires_grad_(leaf is problem.weights[4])
    ops.msd_module(*problem.module_arguments(), impl=impl).sum().backward()
    assert largest_difference(problem.weights[4].grad, expected) < 1e-10


@each_engine
def test_used_twice_in_one_graph(impl: str) -> None:
    problem = make_problem((7, 6))
    other = [problem.input.flip(2), *problem.module_arguments()[1:]]
    ops.msd_module(*problem.module_arguments(), impl=impl).sum().backward()
    ops.msd_module(*other, impl=impl).square().sum().backward()
    separate = [leaf.grad for leaf in problem.leaves()]
    total = ops.msd_module(*problem.module_arguments(), impl=impl).sum()
    total = total + ops.msd_module(*other, impl=impl).square().sum()
    together = torch.autograd.grad(total, problem.leaves())
    for one, two in zip(together, separate, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@each_engine
def test_non_contiguous_input_and_gradient(impl: str) -> None:
    problem = make_problem((6, 8))
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    upstream = torch.randn(1, 1, 8, 6, dtype=torch.float64)
    expected = torch.autograd.grad(output, problem.leaves(), upstream.mT.contiguous())
    strided = problem.input.mT.contiguous().mT
    assert not strided.is_contiguous()
    again = ops.msd_module(strided, *problem.module_arguments()[1:], impl=impl)
    assert torch.equal(again, output)
    for grad, wanted in zip(
        torch.autograd.grad(again, problem.leaves(), upstream.mT), expected, strict=True
    ):
        assert torch.equal(grad, wanted)


@each_engine
def test_no_gradient_flows_where_none_comes_from(impl: str) -> None:
    problem = make_problem((6, 7))
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    for grad in torch.autograd.grad(output, problem.leaves(), torch.zeros_like(output)):
        assert torch.count_nonzero(grad) == 0


@each_engine
def test_empty_batch(impl: str) -> None:
    problem = make_problem((6, 7), batch=0)
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    assert output.shape == (0, 1, 6, 7)
    grads = torch.autograd.grad(output.sum(), problem.leaves())
    assert all(torch.count_nonzero(grad) == 0 for grad in grads)


@each_engine
def test_changing_the_output_in_place_is_noticed(impl: str) -> None:
    problem = make_problem((6, 7))
    output = ops.msd_block(*problem.block_arguments(), impl=impl)
    output.detach().add_(1.0)
    with pytest.raises(RuntimeError, match="modified inplace"):
        output.sum().backward()


@each_engine
def test_inference_equals_training_bit_for_bit(impl: str) -> None:
    problem = make_problem((20, 23), 12, batch=2)
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    with torch.no_grad():
        inferred = ops.msd_module(*problem.module_arguments(), impl=impl)
    assert inferred.grad_fn is None
    assert torch.equal(inferred, output)


@each_engine
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_close_as_its_rounding(dtype: torch.dtype, impl: str) -> None:
    problem = make_problem((12, 13), dtype=dtype)
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    output.sum().backward()
    assert output.dtype == problem.input.grad.dtype == dtype
    expected = module_formula(problem.to(torch.float64))
    assert largest_difference(output, expected) < torch.finfo(dtype).eps


@each_engine
def test_two_runs_give_the_same_bits(impl: str) -> None:
    problem = make_problem((65, 70), 20, dilations=tuple(range(1, 11)), dtype=torch.float32)

    def run() -> list[torch.Tensor]:
        output = ops.msd_module(*problem.module_arguments(), impl=impl)
        return [output, *torch.autograd.grad(output.sum(), problem.leaves())]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


@each_engine
@pytest.mark.parametrize("dilation", [9, 10**6, 2**62])
def test_a_dilation_beyond_a_border_of_zeros_costs_nothing(dilation: int, impl: str) -> None:
    problem = make_problem((7, 9), dilations=(2, 9), padding="zeros")
    expected = module_formula(problem)
    problem.dilations = [2, dilation]
    assert largest_difference(ops.msd_module(*problem.module_arguments(), impl=impl), expected) < (
        1e-10
    )


@each_engine
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own use of it
def test_forward_mode_is_refused(impl: str) -> None:
    problem = make_problem((6, 6))
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(problem.input.detach(), problem.input.detach())
        with pytest.raises(NotImplementedError, match="jvp"):
            ops.msd_module(dual, *problem.module_arguments()[1:], impl=impl)

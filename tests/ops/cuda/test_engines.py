"""The MSD block by CUDA kernels, run on the CPU: against the formula, and under autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool import ops
from msdtool.border import PADDINGS
from msdtool.errors import KernelError
from msdtool.ops.cuda import launcher, product, taps
from msdtool.ops.cuda.per_layer import PerLayerEngine
from msdtool.ops.engine import BlockShape
from tests.ops.formula import (
    Problem,
    block_formula,
    largest_difference,
    make_problem,
    module_formula,
    problems,
)
from tests.shim import ShimLauncher

IMPLEMENTATIONS = ("cuda", "cuda-plain")
# On the CPU by the shim.
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def use_shim(shim: ShimLauncher) -> ShimLauncher:
    return shim


def upstream_of(output: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(output.shape, generator=generator, dtype=torch.float64)


def run(problem: Problem, impl: str = "cuda", device: str = "cpu") -> list[Tensor]:
    """Output and every gradient of msd_module, computed on the device."""
    if device != "cpu":
        problem = on(problem, device)
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    upstream = upstream_of(output).to(output)
    grads = torch.autograd.grad(output, problem.leaves(), upstream)
    return [tensor.cpu() for tensor in (output.detach(), *grads)]


def on(problem: Problem, device: str) -> Problem:
    """A copy with leaves on the device."""

    def copy(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device).requires_grad_()

    return Problem(
        copy(problem.input),
        [copy(weight) for weight in problem.weights],
        copy(problem.bias),
        copy(problem.final_weight),
        copy(problem.final_bias),
        problem.dilations,
        problem.padding,
    )


def check(
    problem: Problem,
    impl: str = "cuda",
    dtype: torch.dtype = torch.float64,
    tolerance: float = 1e-10,
    device: str = "cpu",
) -> None:
    """Output and every gradient equal the formula's in float64."""
    output = module_formula(problem)
    expected = [output, *torch.autograd.grad(output, problem.leaves(), upstream_of(output))]
    for found, wanted in zip(run(problem.to(dtype), impl, device), expected, strict=True):
        assert largest_difference(found, wanted.detach()) < tolerance


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    problem=problems(largest=(14, 6), max_batch=3),
    strip_bytes=st.integers(1, 100_000),
    block_channels=st.integers(1, 8),
)
def test_any_network_equals_the_formula(
    device: str, problem: Problem, strip_bytes: int, block_channels: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launcher.LAUNCHERS, "cpu", ShimLauncher())
        patch.setattr(product, "STRIP_BYTES", strip_bytes)
        patch.setattr(product, "BLOCK_CHANNELS", {2: block_channels, 3: block_channels})
        check(problem, device=device)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("space", [(9, 11), (4, 6, 5)])
@pytest.mark.parametrize("device", DEVICES)
def test_small_networks_equal_the_formula(
    device: str, space: tuple[int, ...], impl: str, padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the sanitizers, too."""
    monkeypatch.setattr(product, "STRIP_BYTES", 20_000)
    dilations = (1, min(space) - 1, 2)
    problem = make_problem(space, 5, width=2, batch=2, dilations=dilations, padding=padding)
    check(problem, impl, device=device)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize(("space", "depth"), [((33, 30), 24), ((8, 9, 7), 6)])
@pytest.mark.parametrize("device", DEVICES)
def test_float32_equals_the_formula(
    device: str, space: tuple[int, ...], depth: int, impl: str
) -> None:
    if impl == "cuda-plain":
        depth = 4
    check(make_problem(space, depth, dilations=(1, 4, 7)), impl, torch.float32, 2e-5, device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("space", [(16, 15), (6, 5, 7)])
@pytest.mark.parametrize("device", DEVICES)
def test_half_storage_is_as_right_as_torch_in_that_type(
    device: str, space: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Errors are at most twice those of a plain torch network of the same type."""
    problem = make_problem(space, 12, dilations=(1, 2, 3)).to(dtype)
    exact = module_formula(problem.to(torch.float64)).detach()
    in_type = module_formula(problem).detach()
    found, *gradients = run(problem, device=device)
    assert found.dtype == dtype

    def rms(values: Tensor) -> float:
        return (values.double() - exact).square().mean().sqrt().item()

    assert rms(found) < 2 * rms(in_type)
    wanted = run(problem.to(torch.float64), "reference")
    for gradient, one_wanted in zip(gradients, wanted[1:], strict=True):
        assert gradient.dtype == dtype
        assert largest_difference(gradient, one_wanted) < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_block_equals_the_formula(impl: str) -> None:
    problem = make_problem((9, 11), width=2, c_in=2, batch=2)
    expected = block_formula(problem)
    leaves = [problem.input, problem.bias, *problem.weights]
    output = ops.msd_block(*problem.block_arguments(), impl=impl)
    assert largest_difference(output, expected.detach()) < 1e-10
    upstream = upstream_of(expected)
    wanted = torch.autograd.grad(expected, leaves, upstream)
    for grad, one_wanted in zip(torch.autograd.grad(output, leaves, upstream), wanted, strict=True):
        assert largest_difference(grad, one_wanted) < 1e-10


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("frozen", [0, 1, 2, 3, 5])
def test_frozen_parameters_get_no_gradient_and_change_no_other(frozen: int, impl: str) -> None:
    problem = make_problem((7, 8), width=2)
    _, *all_grads = run(problem, impl)
    problem.leaves()[frozen].requires_grad_(False)
    output = ops.msd_module(*problem.module_arguments(), impl=impl)
    output.backward(upstream_of(output))
    for index, (leaf, grad) in enumerate(zip(problem.leaves(), all_grads, strict=True)):
        if index == frozen:
            assert leaf.grad is None
        else:
            torch.testing.assert_close(leaf.grad, grad, rtol=1e-12, atol=1e-12)


def test_gradcheck() -> None:
    problem = make_problem((5, 4), 3, dilations=(1, 2))
    with torch.no_grad():
        problem.bias += 4.0  # far from the kink of the ReLU

    def module(input: Tensor, bias: Tensor, *rest: Tensor) -> Tensor:
        final_weight, final_bias, *weights = rest
        return ops.msd_module(input, weights, bias, final_weight, final_bias, [1, 2], impl="cuda")

    assert torch.autograd.gradcheck(module, problem.leaves())


def test_non_contiguous_input_and_gradient() -> None:
    problem = make_problem((6, 8), batch=2)
    output, *expected = run(problem)
    strided = problem.input.mT.contiguous().mT
    upstream = upstream_of(output).mT.contiguous().mT
    again = ops.msd_module(strided, *problem.module_arguments()[1:], impl="cuda")
    assert torch.equal(again, output)
    for grad, wanted in zip(
        torch.autograd.grad(again, problem.leaves(), upstream), expected, strict=True
    ):
        assert torch.equal(grad, wanted)


def test_empty_batch() -> None:
    problem = make_problem((6, 7), batch=0)
    output, *grads = run(problem)
    assert output.shape == (0, 1, 6, 7)
    assert all(torch.count_nonzero(grad) == 0 for grad in grads)


def test_changing_the_output_in_place_is_noticed() -> None:
    problem = make_problem((6, 7))
    output = ops.msd_block(*problem.block_arguments(), impl="cuda")
    output.detach().add_(1.0)
    with pytest.raises(RuntimeError, match="modified inplace"):
        output.sum().backward()


def test_second_derivative_is_refused() -> None:
    problem = make_problem((6, 6))
    output = ops.msd_module(*problem.module_arguments(), impl="cuda")
    (grad,) = torch.autograd.grad(output.square().sum(), problem.input, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        grad.sum().backward()


def test_inference_takes_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PerLayerEngine, "pixels_at_once", 100)
    problem = make_problem((6, 7), batch=5)
    with torch.no_grad():
        output = ops.msd_module(*problem.module_arguments(), impl="cuda")
    assert output.grad_fn is None
    assert largest_difference(output, module_formula(problem).detach()) < 1e-10


def test_order_of_threads_and_repetition_change_no_bit(use_shim: ShimLauncher) -> None:
    problem = make_problem((23, 21), 12, dilations=(1, 5, 9), dtype=torch.float32)
    results = []
    for order in (0, 0, 1, 3):
        use_shim.order = order
        results.append(run(problem))
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_what_a_step_launches(use_shim: ShimLauncher) -> None:
    """Two blocks of at most 8 layers, one strip: no more kernels than that takes."""
    run(make_problem((12, 13), 10))
    names = [function for _, function in use_shim.launched]
    assert {name: names.count(name) for name in names} == {
        "taps_gather": 2,
        "inner_forward": 10,
        "inner_backward": 10,
        "taps_spread": 2,
    }


def test_wide_layers_of_large_slices_come_one_by_one() -> None:
    shape = BlockShape(1, 3, (1, 2, 3), "zeros", 1, (4, 2000, 2000))
    engine = product.ProductEngine(shape, torch.empty(0))
    assert (engine.layers, engine.strip_slices) == (1, 1)


def test_auto_takes_kernels_on_a_gpu_only(
    use_shim: ShimLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem((6, 7))
    ops.msd_module(*problem.module_arguments())
    assert use_shim.launched == []

    class Working(ShimLauncher):
        def obstacle(self, device: torch.device) -> str | None:
            return None

    gpu = torch.device("cuda", 0)
    assert not launcher.preferred(gpu)
    monkeypatch.setitem(launcher.LAUNCHERS, "cuda", Working())
    assert launcher.preferred(gpu)
    assert not launcher.preferred(torch.device("cpu"))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_kernels_without_a_gpu_are_a_clear_error(
    impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(launcher.LAUNCHERS, "cpu")
    message = f"impl is '{impl}', but CUDA kernels need tensors on a GPU; these are on cpu"
    with pytest.raises(KernelError, match=message):
        ops.msd_module(*make_problem((6, 7)).module_arguments(), impl=impl)


def test_what_graphs_point_to_is_kept_for_ever() -> None:
    first = taps._on_device((1, 2, 3), torch.device("cpu"))
    for depth in range(1, 200):
        taps._on_device((7,) * depth, torch.device("cpu"))
    assert taps._on_device((1, 2, 3), torch.device("cpu")) is first


def test_products_read_rows_of_the_same_length_in_all_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the number of channels in front, which is odd for one channel of input."""
    strides = []
    multiply = product.multiply

    def spy(rows: Tensor, channels: Tensor, out: Tensor) -> None:
        strides.append(rows.stride())
        multiply(rows, channels, out)

    monkeypatch.setattr(product, "multiply", spy)
    problem = make_problem((12, 13), 16)
    with torch.no_grad():
        ops.msd_module(*problem.module_arguments(), impl="cuda")
    assert strides == [(1, 8 * 9)] * 2

"""Memory and threads of the engines of the CPU."""

import math
from pathlib import Path

import pytest
import torch

from msdtool import ops
from tests import forked
from tests.ops.each_engine import each_engine, needs_compiler
from tests.ops.formula import (
    Problem,
    make_problem,
)


def growth_of_a_step(batch: int, space: tuple[int, ...], depth: int, train: bool, impl: str) -> int:
    """By how many bytes a network at work makes this process grow, at most."""
    torch.set_num_threads(1)
    taps = (3,) * len(space)
    weights = [torch.zeros(1, 1 + i, *taps, requires_grad=True) for i in range(depth)]
    bias, final_bias = torch.zeros(depth), torch.zeros(1)
    final_weight = torch.zeros(1, 1 + depth, 1)

    def run(space: tuple[int, ...]) -> None:
        with torch.set_grad_enabled(train):
            images = torch.zeros(batch, 1, *space)
            output = ops.msd_module(
                images, weights, bias, final_weight, final_bias, range(1, 11), impl=impl
            )
            if train:
                output.sum().backward()

    run((16,) * len(space))
    before = forked.memory("VmRSS")
    run(space)
    return forked.memory("VmHWM") - before


@each_engine
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nothing to read it from")
@pytest.mark.parametrize(
    ("batch", "space", "depth", "train"),
    [
        (1, (720, 720), 30, True),
        (3, (540, 540), 30, True),
        (3, (540, 540), 30, False),
        (1, (90, 250, 180), 3, True),
        (1, (90, 250, 180), 3, False),
    ],
)
def test_peak_memory_is_the_buffers_and_a_bounded_workspace(
    batch: int, space: tuple[int, ...], depth: int, train: bool, impl: str
) -> None:
    """Y of all images and G of one; without gradients Y of one."""
    plane_bytes = 4 * math.prod(space)
    buffer_bytes = (1 + depth) * plane_bytes * (batch + 1 if train else 1)
    growth = forked.call(growth_of_a_step, batch, space, depth, train, impl)
    # The buffers are seen, and little else.
    assert buffer_bytes < growth < 1.1 * buffer_bytes + 64 * 2**20 + 3 * batch * plane_bytes


def results_by_threads(problem: Problem, impl: str) -> list[list[torch.Tensor]]:
    """Output and gradients with one, two and three threads."""
    threads = torch.get_num_threads()
    results = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        output = ops.msd_module(*problem.module_arguments(), impl=impl)
        results.append([output, *torch.autograd.grad(output.sum(), problem.leaves())])
    torch.set_num_threads(threads)
    return results


def test_threads_change_results_of_torch_by_rounding_only() -> None:
    """BLAS splits its sums by the number of threads."""
    problem = make_problem((65, 70), 20, dilations=tuple(range(1, 11)))
    one, *others = results_by_threads(problem, "torch")
    for other in others:
        for first, second in zip(one, other, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("space", [(130, 70), (9, 20, 33)])
def test_threads_change_no_bit_of_compiled_results(space: tuple[int, ...]) -> None:
    problem = make_problem(space, 12, width=2, dilations=(1, 9, 4), dtype=torch.float32)
    one, *others = results_by_threads(problem, "compiled")
    for other in others:
        for first, second in zip(one, other, strict=True):
            assert torch.equal(first, second)

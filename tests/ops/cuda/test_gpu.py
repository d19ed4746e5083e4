"""What only a GPU shows: streams, graphs, several devices, memory, the cache, and falling back.

`pytest -m gpu` runs these, and on the device the parity tests of the kernels.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from msdtool import doctor, ops
from msdtool.ops.cuda import launcher
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from tests.ops.cuda.test_engines import on, run
from tests.ops.formula import Problem, largest_difference, make_problem

pytestmark = pytest.mark.gpu
DILATIONS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def problem_on(device: str, size: int = 67, depth: int = 20, batch: int = 1) -> Problem:
    space = (size, size + 3)
    problem = make_problem(space, depth, dilations=DILATIONS, batch=batch, dtype=torch.float32)
    return on(problem, device)


def step(problem: Problem) -> list[Tensor]:
    output = ops.msd_module(*problem.module_arguments(), impl="cuda")
    return [output, *torch.autograd.grad(output.square().sum(), problem.leaves())]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_doctor_finds_nothing_broken() -> None:
    assert [f for f in doctor.examine() if f.state == doctor.BROKEN] == []


def test_auto_takes_the_kernels() -> None:
    problem = problem_on("cuda")
    auto = ops.msd_module(*problem.module_arguments())
    assert torch.equal(auto, ops.msd_module(*problem.module_arguments(), impl="cuda"))


def test_two_runs_give_the_same_bits() -> None:
    problem = problem_on("cuda", 301, batch=2)
    assert same(step(problem), step(problem))


def test_work_is_queued_in_torchs_current_stream() -> None:
    """Without that, the kernels would read their input before it is there."""
    problem = problem_on("cuda", 301)
    expected = step(problem)
    image = problem.input.detach().clone()
    stream = torch.cuda.Stream()
    with torch.no_grad():
        problem.input.zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        with torch.no_grad():
            problem.input.copy_(image)
        found = step(problem)
    stream.synchronize()
    assert same(found, expected)


def test_a_step_is_captured_in_a_graph() -> None:
    problem = problem_on("cuda")
    expected = step(problem)
    image = problem.input.detach().clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(problem)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        problem.input.zero_()
    with torch.cuda.graph(graph):
        found = step(problem)
    with torch.no_grad():
        problem.input.copy_(image)
    graph.replay()
    torch.cuda.synchronize()
    assert same(found, expected)


@pytest.mark.skipif("torch.cuda.device_count() < 2", reason="one CUDA device")
def test_a_second_device_computes_the_same() -> None:
    first, second = (step(problem_on(f"cuda:{index}")) for index in (0, 1))
    assert torch.cuda.current_device() == 0
    assert {tensor.device.index for tensor in second} == {1}
    assert same([tensor.cpu() for tensor in first], [tensor.cpu() for tensor in second])


def test_without_kernels_auto_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_on("cuda")
    expected = step(problem)

    class Broken(launcher.CupyLauncher):
        def obstacle(self, device: torch.device) -> str | None:
            return "CuPy is not installed"

    monkeypatch.setitem(launcher.LAUNCHERS, "cuda", Broken())
    output = ops.msd_module(*problem.module_arguments())
    grads = torch.autograd.grad(output.square().sum(), problem.leaves())
    for found, wanted in zip((output, *grads), expected, strict=True):
        assert largest_difference(found.detach(), wanted.detach().double()) < 2e-5


@pytest.mark.parametrize("switch", ["allow_tf32", "fp32_precision"])
def test_tf32_comes_only_when_asked_for(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, switch):
        pytest.skip("torch 2.9 introduced the new switch")
    exact = run(make_problem((200, 203), 30, dilations=DILATIONS), device="cuda")[0]
    problem = make_problem((200, 203), 30, dilations=DILATIONS, dtype=torch.float32)
    assert getattr(matmul, switch) in (False, "none", "ieee")
    full = largest_difference(run(problem, device="cuda")[0], exact)
    monkeypatch.setattr(matmul, switch, True if switch == "allow_tf32" else "tf32")
    allowed = largest_difference(run(problem, device="cuda")[0], exact)
    assert full < 2e-6 < allowed < 1e-2


def test_memory_is_the_buffers_and_a_bounded_workspace() -> None:
    depth, size = 60, 1024
    problem = problem_on("cuda", size, depth)
    step(problem)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(problem)
    growth = torch.cuda.max_memory_allocated() - before
    plane_bytes = 4 * size * (size + 3)
    assert growth < 2 * (1 + depth) * plane_bytes + 64 * 2**20 + 6 * plane_bytes


WARM = """
import torch
from cupy.cuda import compiler
from msdtool.doctor import kernels
calls = []
compile_now = compiler._compile_using_nvrtc_no_warning
def count(source, *arguments, **options):
    calls.append(source)
    return compile_now(source, *arguments, **options)
compiler._compile_using_nvrtc_no_warning = count
kernels.SPACES = kernels.SPACES[:1]
assert all(check.passed for check in kernels.check_networks(torch.device("cuda", 0), "cuda"))
print(sum("STORAGE" in source for source in calls))
"""


def test_a_warm_start_compiles_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "CUPY_CACHE_DIR": str(tmp_path)}
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-c", WARM],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(2)
    ]
    assert counts[0] > 0
    assert counts[1] == 0


def _on_the_cpu(queue: "multiprocessing.Queue[float]") -> None:
    torch.set_num_threads(1)  # as those workers do: threads do not survive a fork
    problem = make_problem((12, 13))
    queue.put(ops.msd_module(*problem.module_arguments()).sum().item())


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked_processes_compute_on_the_cpu() -> None:
    """As the workers of a DataLoader do, after the GPU was used."""
    step(problem_on("cuda"))
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=_on_the_cpu, args=(queue,))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    problem = make_problem((12, 13))
    assert found == ops.msd_module(*problem.module_arguments()).sum().item()


@pytest.mark.parametrize("buffer", ["disk", "host", "device"])
def test_strips_on_the_device_equal_the_whole_image(buffer: str, tmp_path: Path) -> None:
    problem = problem_on("cuda", 601, depth=12)
    image, *parameters = problem.module_arguments()
    output = np.empty((1, 601, 604), np.float32)
    ops.msd_module_streamed(
        image[0].detach().cpu().numpy(), *parameters,
        output=output, memory_bytes=RESERVED_BYTES + 2**22, buffer=buffer, directory=tmp_path,
    )  # fmt: skip
    expected = ops.msd_module(*problem.module_arguments())[0].detach().cpu().numpy()
    np.testing.assert_allclose(output, expected, rtol=2e-5, atol=2e-5)

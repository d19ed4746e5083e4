"""What is measured on a GPU, with stand-ins on the CPU."""

from dataclasses import replace

import pytest
import torch

from msdtool import ops
from msdtool.bench import methods, suite
from msdtool.bench.cases import Case, Problem
from msdtool.bench.methods import ENGINE, GPU_METHODS, METHODS, as_graphs, methods_for
from msdtool.nn import graphs

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SMALL = Case((16, 16), depth=3)


def test_a_gpu_has_more_methods_and_the_engine_comes_first():
    assert methods_for(CPU) == METHODS
    assert methods_for(GPU) == METHODS + GPU_METHODS
    names = [method.name for method in methods_for(GPU)]
    assert names[0] == ENGINE
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "case",
    [Case((8, 8, 8), 3), Case((16, 16), 3, width=2), Case((16, 16), 3, batch=2),
     Case((16, 16), 3, padding="zeros"), Case((16, 16), 1500)],
)  # fmt: skip
def test_naive_kernels_know_one_kind_of_network(case):
    naive = next(method for method in GPU_METHODS if method.name == "naive kernels")
    assert naive.obstacle(SMALL) == ""
    assert "only for one image in 2D" in naive.obstacle(case)


def test_graphs_are_kept_while_methods_take_turns(monkeypatch):
    captured = []

    def capture(network, sample):
        captured.append(sample.shape)
        return network.forward

    monkeypatch.setattr(graphs, "_capture_training", capture)
    methods._graphs.clear()
    monkeypatch.setattr(methods, "MAX_NETWORKS", 2)
    problems = [Problem(SMALL, CPU, seed=seed) for seed in range(3)]
    for problem in (problems[0], problems[1], problems[0], problems[1], problems[2]):
        output = problem.forward(as_graphs)
        expected = problem.forward(METHODS[0].module)
        assert torch.equal(output, expected)
        for grad, wanted in zip(problem.backward(output), problem.backward(expected), strict=True):
            assert torch.equal(grad, wanted)
    assert len(captured) == 3
    assert len(methods._graphs) == 2
    methods._graphs.clear()


def test_every_kind_of_kernels_and_precision_is_measured_through_graphs(shim, monkeypatch):
    monkeypatch.setattr(graphs, "_capture_training", lambda network, sample: network.forward)
    graphed = [method for method in GPU_METHODS if "graphs" in method.name]
    assert len(graphed) == methods.MAX_NETWORKS == 3
    methods._graphs.clear()
    for method in graphed:
        shim.launched.clear()
        problem = Problem(Case((16, 16), depth=3), CPU, method.dtype)
        expected = problem.forward(ops.msd_module)
        assert torch.equal(problem.forward(method.module), expected)
        assert ("bfloat16" in method.name) == (expected.dtype == torch.bfloat16)
        assert ("TF32" in method.name) == method.tf32
    assert len(methods._graphs) == 3
    methods._graphs.clear()


def rounds_to_tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 and newer
        return matmul.fp32_precision == "tf32"
    return matmul.allow_tf32


def test_gpu_methods_run_where_kernels_do(shim, monkeypatch):
    """All but torch.compile and graphs, through the suite and at the precision of each."""
    monkeypatch.setattr(suite, "sgemm_peak", lambda device: 2e9)
    monkeypatch.setattr(suite, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(suite, "peak_growth", lambda case, module, device: (10, 20))
    monkeypatch.setattr(suite, "PROBES", {2: (12, 12)})
    chosen = [m for m in GPU_METHODS if "compile" not in m.name and "graphs" not in m.name]
    seen = {}

    def spy(method):
        def module(*arguments):
            seen[method.name] = rounds_to_tf32(), arguments[0].dtype
            return method.module(*arguments)

        return replace(method, module=module)

    monkeypatch.setattr(
        suite, "methods_for", lambda device: (METHODS[0], *(spy(method) for method in chosen))
    )
    before = rounds_to_tf32()
    ((_, *rows),) = suite.run_suite([SMALL], CPU, seconds=0.0, limit=1000.0)
    assert rounds_to_tf32() == before
    assert [row.note for row in rows] == [""] * len(chosen)
    assert seen["msdtool, TF32"] == (True, torch.float32)
    assert seen["msdtool, bfloat16"] == (False, torch.bfloat16)
    assert seen["msdtool, float16"] == (False, torch.float16)
    # 2 * 9 * (1 + 2 + 3) FLOP for the layers and 2 * 4 for the final one, per pixel.
    first = rows[0].as_dict()
    assert first["forward_limit_seconds"] == pytest.approx(256 * (108 + 8) / 2e9)
    assert first["step_limit_share"] == first["step_limit_seconds"] / first["step_seconds"]


def test_a_method_that_fails_is_left_out_with_the_reason(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("Cannot find a working triton installation.\nMore words.")

    broken = replace(METHODS[1], module=fail)
    monkeypatch.setattr(suite, "methods_for", lambda device: (METHODS[0], broken))
    monkeypatch.setattr(suite, "sgemm_peak", lambda device: 1e9)
    monkeypatch.setattr(suite, "peak_growth", lambda case, module, device: (10, 20))
    ((_, row),) = suite.run_suite([SMALL], CPU, seconds=0.0, limit=1000.0)
    assert row.note == "not run: Cannot find a working triton installation."


def test_what_fails_at_the_full_size_leaves_the_others(monkeypatch):
    def fail(*arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 40 GiB.")

    broken = replace(METHODS[1], module=fail)
    monkeypatch.setattr(suite, "methods_for", lambda device: (METHODS[0], broken))
    monkeypatch.setattr(suite, "_too_slow", lambda *_: "")
    monkeypatch.setattr(suite, "sgemm_peak", lambda device: 1e9)
    monkeypatch.setattr(suite, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(suite, "available_bytes", lambda device: None)
    monkeypatch.setattr(suite, "peak_growth", lambda case, module, device: (10, 20))
    monkeypatch.setattr(suite, "synchronizer", lambda device: None)
    monkeypatch.setattr(suite, "Problem", lambda case, device, dtype: Problem(case, CPU, dtype))
    ((first, row),) = suite.run_suite([SMALL], GPU, seconds=0.0, limit=1000.0)
    assert first.step is not None
    assert row.note == "not run: CUDA out of memory. Tried to allocate 40 GiB."


def test_on_a_gpu_the_first_round_is_not_timed(monkeypatch):
    calls = []

    def compiles(*arguments):
        calls.append(torch.is_grad_enabled())
        return METHODS[0].module(*arguments)

    seen = []
    monkeypatch.setattr(suite, "synchronizer", lambda device: None)
    monkeypatch.setattr(suite, "interleave", lambda subjects, *_: seen.append(len(calls)) or {})
    monkeypatch.setattr(suite, "Problem", lambda case, device, dtype: Problem(case, CPU, dtype))
    chosen = [(replace(METHODS[0], module=compiles), SMALL)]
    suite._time_side_by_side(chosen, GPU, 0.0)
    suite._time_side_by_side(chosen, CPU, 0.0)
    assert seen == [2, 2]
    assert calls == [False, True]


def test_torch_compile_is_given_every_size_as_it_is(monkeypatch):
    import torch._dynamo

    asked = {}
    monkeypatch.setattr(torch._dynamo.config, "cache_size_limit", 8)
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: asked.update(options) or function
    )
    methods._compiled.cache_clear()
    problem = Problem(SMALL, CPU)
    assert torch.equal(problem.forward(methods.compiled), problem.forward(METHODS[1].module))
    methods._compiled.cache_clear()
    assert asked == {"dynamic": False}
    assert torch._dynamo.config.recompile_limit == methods.MAX_COMPILATIONS

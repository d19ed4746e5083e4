"""Where the time of a training step goes: a profile, and on a GPU each kernel on its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from msdtool import ops
from msdtool.atomic import atomic_path
from msdtool.bench.cases import Case, Problem
from msdtool.bench.kernels import kernels_of
from msdtool.bench.machine import synchronizer
from msdtool.bench.timing import bench

NUM_ROWS = 20
CALLS_PER_GRAPH = 20  # so that starting the graph takes a small part of the time


def profile_step(case: Case, device: torch.device, path: Path) -> str:
    """Write the trace of one step after a warm-up, for chrome://tracing or ui.perfetto.dev.

    Returns:
        The most expensive calls, as a table.
    """
    problem = Problem(case, device)
    problem.backward(problem.forward(ops.msd_module))
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        problem.backward(problem.forward(ops.msd_module))
        if synchronize := synchronizer(device):
            synchronize()
    with atomic_path(path) as temporary:
        profiler.export_chrome_trace(str(temporary))
    order = f"self_{device.type}_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=NUM_ROWS)


@dataclass(frozen=True)
class KernelRow:
    """The measured speed of a kernel.

    Attributes:
        name: of the kernel or product.
        seconds: median time.
        gb_per_second: bytes over that time.
        tflops: FLOP over that time.
        limit_share: the least possible time by counts, from the GPU's measured copy and sgemm,
            over the time taken.
    """

    name: str
    seconds: float
    gb_per_second: float
    tflops: float
    limit_share: float


def measure_kernels(
    case: Case,
    device: torch.device,
    flops_per_second: float,
    bytes_per_second: float,
    seconds: float = 0.2,
) -> Iterator[KernelRow]:
    """Time the kernels of a case one by one, on a GPU without the time that launching takes."""
    for kernel in kernels_of(case, device):
        start, calls = kernel.start, 1
        if device.type == "cuda":
            start, calls = as_graph(start, CALLS_PER_GRAPH), CALLS_PER_GRAPH
        timed = (
            bench(kernel.name, start, seconds=seconds, synchronize=synchronizer(device)).median
            / calls
        )
        least = max(kernel.flops / flops_per_second, kernel.num_bytes / bytes_per_second)
        yield KernelRow(
            kernel.name,
            timed,
            kernel.num_bytes / timed / 1e9,
            kernel.flops / timed / 1e12,
            least / timed,
        )


def as_graph(start: Callable[[], object], calls: int) -> Callable[[], object]:
    """Record some calls in a CUDA graph; what is returned runs them.

    Python needs longer to launch most kernels than they run, so calls one by one would time Python.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        start()  # kernels are compiled and loaded, which a graph cannot record
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(calls):
            start()
    return graph.replay


def table(rows: list[KernelRow]) -> str:
    """Format the rows as a table."""
    width = max(len(row.name) for row in rows)
    head = f"{'kernel':<{width}}  {'ms':>9}  {'GB/s':>7}  {'TFLOP/s':>7}  {'of limit':>8}"
    lines = [
        f"{row.name:<{width}}  {1e3 * row.seconds:9.4f}  {row.gb_per_second:7.0f}  "
        f"{row.tflops:7.2f}  {row.limit_share:8.1%}"
        for row in rows
    ]
    return "\n".join([head, *lines])

"""A profile of a training step: a trace to look at, and the most expensive calls."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from msdtool import ops
from msdtool.atomic import atomic_path
from msdtool.bench.cases import Case, Problem
from msdtool.bench.machine import synchronizer

NUM_ROWS = 20


def profile_step(case: Case, device: torch.device, path: Path) -> str:
    """Write the trace of one step, for chrome://tracing or ui.perfetto.dev, after one to warm up.

    Returns:
        The calls that took most time, as a table.
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

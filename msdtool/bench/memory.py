"""Peak memory of a forward pass and of a training step, measured in a separate process.

The process imports all it needs, makes the tensors of the case and takes one step with a tiny
network, so that libraries and their threads are loaded. The result is the peak growth of its memory
while it works on the case. On Linux that is VmHWM minus VmRSS of /proc/self/status.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TypeVar

import torch

from msdtool.bench.cases import Case, Module, Problem
from msdtool.ops.cpu.buffers import release_spare
from msdtool.system_memory import peak_memory

STATUS = Path("/proc/self/status")
CPU = torch.device("cpu")
T = TypeVar("T")


def peak_growth(case: Case, module: Module, device: torch.device) -> tuple[int, int] | None:
    """Return the peak memory growth of a forward pass without gradients and of a training step.

    Args:
        case: what to compute.
        module: computes it; the new process imports it by its name.
        device: on a GPU, torch's own count of allocated memory is used, in this process.

    Returns:
        Both in bytes, or None if they cannot be measured.

    Raises:
        BrokenProcessPool: the process was killed, for example because memory ran out.
    """
    if device.type == "cuda":
        return _growth_on_gpu(case, module, device)
    if sys.platform == "win32":
        return None
    return _in_own_process(_growth_here, case, module, torch.get_num_threads())


def step_growth(prepare: Callable[[bool], Callable[[], object]]) -> int | None:
    """Return the peak memory growth in bytes of a step other than a network's, on the CPU.

    Args:
        prepare: makes the tensors of a step and returns a function that takes it; first called with
            True, for a tiny step. The new process imports it by name.

    Returns:
        Bytes, or None if they cannot be measured.

    Raises:
        BrokenProcessPool: the process was killed, for example because memory ran out.
    """
    if sys.platform == "win32":
        return None
    return _in_own_process(_step_growth_here, prepare, torch.get_num_threads())


def _in_own_process(function: Callable[..., T], *arguments: object) -> T:
    release_spare()  # the other process may need all free memory
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin) as executor:
        return executor.submit(function, *arguments).result()


def _begin() -> None:
    # An interrupt ends this process silently: the parent reports its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit, and so free the memory, if the parent process is killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _step_growth_here(prepare: Callable[[bool], Callable[[], object]], num_threads: int) -> int:
    torch.set_num_threads(num_threads)
    prepare(True)()
    step = prepare(False)
    before = _status("VmRSS") if STATUS.exists() else _peak()
    step()
    return _peak() - before


def _growth_here(case: Case, module: Module, num_threads: int) -> tuple[int, int]:
    torch.set_num_threads(num_threads)
    _work(_tiny(case, CPU), module, int)
    problem = Problem(case, CPU)
    before = _status("VmRSS") if STATUS.exists() else _peak()
    forward, step = _work(problem, module, _peak)
    return forward - before, step - before


def _growth_on_gpu(case: Case, module: Module, device: torch.device) -> tuple[int, int]:
    _work(_tiny(case, device), module, int)
    problem = Problem(case, device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    forward, step = _work(problem, module, lambda: torch.cuda.max_memory_allocated(device))
    return forward - before, step - before


def _tiny(case: Case, device: torch.device) -> Problem:
    return Problem(Case((16,) * case.ndim, depth=2, padding=case.padding), device)


def _work(problem: Problem, module: Module, peak: Callable[[], int]) -> tuple[int, int]:
    """Return the peaks after a forward pass and after a step, which is always the higher one."""
    with torch.no_grad():
        problem.forward(module)
    forward = peak()
    problem.backward(problem.forward(module))
    return forward, peak()


def _peak() -> int:
    peak = peak_memory()
    assert peak is not None, "this system does not report the peak memory of a process"
    return peak


def _status(name: str) -> int:
    """Return the value of a line of /proc/self/status in bytes."""
    lines = STATUS.read_text(encoding="utf-8", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

"""Peak memory of a forward pass and of a training step, measured in a process of its own.

The process imports all it needs, makes the tensors of the case and takes one step with a tiny
network, so that libraries and their threads are in place. What its memory then grows by at most
while it works on the case is the result. On Linux that is VmHWM minus VmRSS of /proc/self/status:
ru_maxrss, used elsewhere, is inherited from the process that started this one.
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
from msdtool.ops.memory import release_spare

if sys.platform != "win32":
    import resource

STATUS = Path("/proc/self/status")
CPU = torch.device("cpu")
T = TypeVar("T")


def peak_growth(case: Case, module: Module, device: torch.device) -> tuple[int, int] | None:
    """Bytes that memory grows by in a forward pass without gradients, and in a training step.

    Args:
        case: what to compute.
        module: computes it; the new process imports it by its name.
        device: on a GPU, torch's own count of allocated memory is taken, in this process.

    Returns:
        Both, or None where this cannot be measured.

    Raises:
        BrokenProcessPool: the process was ended, for example because memory ran out.
    """
    if device.type == "cuda":
        return _growth_on_gpu(case, module, device)
    if sys.platform == "win32":
        return None
    return _in_own_process(_growth_here, case, module, torch.get_num_threads())


def step_growth(prepare: Callable[[bool], Callable[[], object]]) -> int | None:
    """Bytes that memory grows by in a step of something else than a network, on the CPU.

    Args:
        prepare: makes the tensors of a step and returns what takes it; called with True first, for
            a tiny one. The new process imports it by its name.

    Returns:
        None where this cannot be measured.

    Raises:
        BrokenProcessPool: the process was ended, for example because memory ran out.
    """
    if sys.platform == "win32":
        return None
    return _in_own_process(_step_growth_here, prepare, torch.get_num_threads())


def _in_own_process(function: Callable[..., T], *arguments: object) -> T:
    release_spare()  # the other process may need all there is
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin) as executor:
        return executor.submit(function, *arguments).result()


def _begin() -> None:
    # An interrupt ends the process without a word: the one that waits for it has its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Give the memory back when the process that waits for the result was killed."""
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
    """The peak after a forward pass, and after a step: the step's is the higher one anyway."""
    with torch.no_grad():
        problem.forward(module)
    forward = peak()
    problem.backward(problem.forward(module))
    return forward, peak()


def _peak() -> int:
    """The most memory this process has had, in bytes."""
    if STATUS.exists():
        return _status("VmHWM")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = STATUS.read_text(encoding="utf-8", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

"""Processes that start at once: forked from one that has imported torch and the program."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

PRELOADED = [
    "imageio.v3",
    "msdtool.cli",
    "msdtool.evaluate",
    "msdtool.report.curves",
    "msdtool.train.distributed",
    "msdtool.train.prepare",
]


def context() -> ForkServerContext:
    """Starts such processes. The one that forks has no threads, which would not survive that."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process; return what it returns, or raise what it raises."""
    with ProcessPoolExecutor(1, mp_context=context()) as executor:
        return executor.submit(function, *arguments).result()


def memory(name: str) -> int:
    """Bytes that this process uses, ``VmRSS``, or has used at most, ``VmHWM``.

    Not ru_maxrss, which is inherited from the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


class Program(multiprocessing.context.ForkServerProcess):
    """``msdtool`` with these arguments, in a process group of its own; what it says goes to a file.

    Its threads of torch are one; what it starts has so many, too. Keyword arguments are variables
    of its environment.
    """

    def __init__(self, *arguments: object, output: Path, **environment: str) -> None:
        context()
        super().__init__(target=_run, args=(list(map(str, arguments)), str(output), environment))
        self.output = output
        output.touch()
        self.start()

    def wait(self, seconds: float) -> int:
        """Wait until it ends; return its exit code, or the negative number of a signal."""
        self.join(seconds)
        assert self.exitcode is not None, f"hangs:\n{self.output.read_text()}"
        return self.exitcode


def _run(arguments: list[str], output: str, environment: dict[str, str]) -> None:
    import torch

    from msdtool.cli import main

    multiprocessing.set_start_method(None, force=True)  # what a process starts with otherwise
    os.setsid()
    files = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(output, os.O_CREAT | os.O_APPEND | os.O_WRONLY),
    )
    for stream, file in zip((0, 1, 2), (*files, files[1]), strict=True):
        os.dup2(file, stream)
    os.environ |= {"OMP_NUM_THREADS": "1", **environment}
    torch.set_num_threads(1)
    sys.stdin = open(0)  # noqa: SIM115 - multiprocessing has closed it
    sys.argv = ["msdtool", *arguments]
    main()

"""Processes for tests, started once: functions run in some of them, connected by Gloo."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests import forked

SIZE = 3
PATIENCE_SECONDS = 600.0


def _serve(rank: int, pipe: Connection) -> None:
    import torch

    from msdtool.train.distributed import Distributed
    from msdtool.train.processes import Launch

    torch.set_num_threads(1)
    while True:
        function, arguments, launch, timeout = pipe.recv()
        try:
            processes = Distributed(Launch(rank, *launch), timeout)
        except Exception as error:
            pipe.send(error)
            continue
        try:
            answer = function(processes, *arguments)
        except Exception as error:
            answer = error
        processes.close()
        pipe.send(answer)


class Team:
    """Processes that wait for something to do."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = forked.context()
        self.pipes, self.processes = [], []
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def __call__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        size: int = 2,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> list[Any]:
        """Call ``function(processes, *arguments)`` in ``size`` of them.

        Returns what each of them returns or raises. Where they miss each other, because a port was
        taken between its choice and its use, or one had ended before it was asked, new ones try
        again.
        """
        try:
            answers = self._ask(function, arguments, size, timeout_seconds)
        except BrokenPipeError:
            missed = True
        else:
            missed = any("cannot connect to the other processes" in str(one) for one in answers)
        if missed:
            self.close()
            self._start()
            answers = self._ask(function, arguments, size, timeout_seconds)
        return answers

    def _ask(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        size: int,
        timeout_seconds: float,
    ) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            launch = size, 0, f"file://{Path(folder) / 'meeting'}"
            for pipe in self.pipes[:size]:
                pipe.send((function, arguments, launch, timedelta(seconds=timeout_seconds)))
            answers = []
            for pipe in self.pipes[:size]:
                if not pipe.poll(PATIENCE_SECONDS):
                    self.close()
                    self._start()  # those that hang would answer the next question with this one's
                    raise AssertionError(f"{function.__name__} hangs")
                answers.append(self._answer(pipe))
        return answers

    def _answer(self, pipe: Connection) -> Any:
        try:
            return pipe.recv()
        except EOFError:
            process = self.processes[self.pipes.index(pipe)]
            process.join()
            raise AssertionError(f"a process ended with {process.exitcode}") from None

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.join()

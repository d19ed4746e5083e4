"""Two processes for tests, started once: functions run in both, connected by Gloo."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIZE = 2
PATIENCE_SECONDS = 100.0


def _serve(rank: int, pipe: Connection) -> None:
    import torch

    from msdtool.train.distributed import Distributed
    from msdtool.train.processes import Launch

    torch.set_num_threads(1)
    while True:
        function, arguments, meeting = pipe.recv()
        processes = Distributed(Launch(rank, SIZE, rank, meeting))
        try:
            answer = function(processes, *arguments)
        except Exception as error:
            answer = error
        processes.close()
        pipe.send(answer)


class Team:
    """Processes that wait for something to do."""

    def __init__(self) -> None:
        # Not forked: torch's threads would not survive that.
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Call ``function(processes, *arguments)`` in each; return the results or exceptions."""
        with tempfile.TemporaryDirectory() as folder:
            for pipe in self.pipes:
                pipe.send((function, arguments, f"file://{Path(folder) / 'meeting'}"))
            answers = []
            for pipe in self.pipes:
                assert pipe.poll(PATIENCE_SECONDS), "hangs"
                answers.append(pipe.recv())
        return answers

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.join()


def pid(_processes: Any) -> int:
    """A function for a team: its processes' ids."""
    return os.getpid()

"""The processes that train one network together, and how this one knows of them.

Nothing here needs torch, so that a command can ask before it loads it. A launcher (torchrun, or
srun with several tasks) starts the same command once per GPU; `msdtool.train.distributed` connects
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from msdtool.errors import ConfigError, Error, FailedElsewhere

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")


class Processes:
    """All processes of a training; this class is a single one, which has nobody to talk to.

    What is called "on every process" must be called by all of them, in the same order.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
    """

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The indices of ``count`` items that this process takes care of."""
        return range(self.rank, count, self.size)

    def use_device(self, device: torch.device) -> None:
        """Have "cuda" mean this process's GPU from now on.

        Raises:
            ConfigError: there are fewer GPUs than processes on this machine.
        """

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return the network as training calls it: its gradients are means over the processes."""
        return network

    def accumulating(self, network: nn.Module) -> AbstractContextManager[None]:
        """While it lasts, the gradients of ``network``, a result of `parallel`, stay local."""
        return nullcontext()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, for use in a loss."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set on one process at least."""
        return flag

    def largest(self, value: float) -> float:
        """The largest of the processes' values."""
        return value

    def gather(self, value: T) -> list[T]:
        """The ``value`` of each process, in the order of their ranks."""
        return [value]

    def together(self, work: Callable[[], T]) -> T:
        """Do ``work`` on every process; if one fails, all do.

        Raises:
            Error: what ``work`` raised, on the first process where it did.
            FailedElsewhere: on all others.
        """
        return work()

    def on_main(self, work: Callable[[], T]) -> T:
        """Do ``work`` on the main process and return its result on every one.

        Raises:
            Error: what ``work`` raised, on the main process.
            FailedElsewhere: on all others.
        """
        return work()

    def agreed(self, error: Error) -> Error:
        """An error that every process comes to: only the main one has to say it."""
        return error if self.is_main else FailedElsewhere(error.exit_code)

    def lost(self, error: RuntimeError) -> Error | None:
        """What to tell when torch raised ``error`` because another process is gone, else None."""
        return None

    def close(self) -> None:
        """Part from the others, when the work is done."""


ALONE = Processes()


@dataclass(frozen=True)
class Launch:
    """This process's place among those that a launcher started.

    Attributes:
        rank: its number, from 0.
        size: how many there are on all machines.
        local_rank: its number on this machine, from 0.
        meeting: the URL where they find each other, as torch.distributed understands it.
        attempt: differs each time that the launcher starts them, so that they do not take what
            those before them left at the meeting for each other's.
    """

    rank: int
    size: int
    local_rank: int
    meeting: str
    attempt: str = "0"


def find_launch(environment: Mapping[str, str]) -> Launch | None:
    """Read what torchrun, or srun with several tasks, says; None: this process is alone.

    torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, and more that torch reads by itself. srun sets
    SLURM_PROCID, SLURM_STEP_NUM_TASKS and SLURM_LOCALID; for several machines a batch script has
    to export MASTER_ADDR, while the port follows from the number of the job.

    Raises:
        ConfigError: a variable is missing or is not a number.
    """
    by_torchrun = "RANK" in environment and "WORLD_SIZE" in environment
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not by_torchrun:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    if environment.get(names[1], "1") == "1":
        return None
    rank, size, local_rank = (_number(environment, name) for name in names)
    if not by_torchrun:
        return Launch(rank, size, local_rank, f"tcp://{_address(environment)}:{_port(environment)}")
    # On several machines torchrun does not count restarts alike.
    one_machine = environment.get("GROUP_WORLD_SIZE", "1") == "1"
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if one_machine else "0"
    return Launch(rank, size, local_rank, "env://", attempt)


def _address(environment: Mapping[str, str]) -> str:
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"]
    if environment.get("SLURM_STEP_NUM_NODES", "1") == "1":
        return "127.0.0.1"
    raise ConfigError(
        "MASTER_ADDR is not set, so that the processes cannot find each other; in the batch "
        'script: export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    )


def _port(environment: Mapping[str, str]) -> int:
    if "MASTER_PORT" in environment:
        return _number(environment, "MASTER_PORT")
    # Jobs may share a machine. These ports are below those that systems hand out by themselves.
    return 20000 + _number(environment, "SLURM_JOB_ID") % 12000


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        raise ConfigError(
            f"{name}: got {text!r}, expected a number; start several processes by torchrun, or "
            "by srun with a task per GPU"
        )
    return int(text)

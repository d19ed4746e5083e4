"""The processes that train one network together, and how this one finds out about them.

Nothing here needs torch, so that a command can ask before loading it. A launcher (torchrun, or srun
with several tasks) starts the same command once per GPU; `msdtool.train.distributed` connects the
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from msdtool.errors import ConfigError, Error, FailedElsewhere

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")


class Processes:
    """All processes of a training; this base class is for a single one.

    Every method must be called by all processes, in the same order.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.
    """

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and reports to the user."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return this process's share of the indices of ``count`` items."""
        return range(self.rank, count, self.size)

    def use_device(self, device: torch.device) -> None:
        """Make "cuda" refer to this process's GPU from now on.

        Raises:
            ConfigError: there are fewer GPUs than processes on this machine.
        """

    def unite(self, network: nn.Module) -> None:
        """Make a network the same on all processes; its batch norms pool their batches from now on.

        Parameters and buffers become those of the main process.
        """

    def average_gradients(self, network: nn.Module) -> None:
        """Replace the gradients of a network by their means over the processes."""

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, for use in a loss."""
        return values

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is set on at least one process."""
        return flag

    def largest(self, value: float) -> float:
        """Return the largest of the processes' values."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of each process, in the order of ranks."""
        return [value]

    def together(self, work: Callable[[], T]) -> T:
        """Run ``work`` on every process; if it fails on one, all fail.

        Raises:
            Error: what ``work`` raised, on the first process where it failed.
            FailedElsewhere: on all others.
        """
        return work()

    def on_main(self, work: Callable[[], T]) -> T:
        """Run ``work`` on the main process and return its result on every process.

        Raises:
            Error: what ``work`` raised, on the main process.
            FailedElsewhere: on all others.
        """
        return work()

    def agreed(self, error: Error) -> Error:
        """Return the form of an error that all processes raise: only the main one reports it."""
        return error if self.is_main else FailedElsewhere(error.exit_code)

    def lost(self, _error: RuntimeError) -> Error | None:
        """Return what to raise if torch raised an error because a process died, else None."""
        return None

    def close(self) -> None:
        """Disconnect from the other processes when the work is done."""


ALONE = Processes()


@dataclass(frozen=True)
class Launch:
    """This process's place among those that a launcher started.

    Attributes:
        rank: its number, from 0.
        size: number of processes on all machines.
        local_rank: its number on this machine, from 0.
        meeting: URL for the rendezvous, as torch.distributed understands it.
        attempt: differs each time the launcher starts the processes, so that they ignore what
            earlier ones left at the rendezvous.
    """

    rank: int
    size: int
    local_rank: int
    meeting: str
    attempt: str = "0"


def find_launch(environment: Mapping[str, str]) -> Launch | None:
    """Read the variables of torchrun, or of srun with several tasks; None: a single process.

    torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, and others that torch reads on its own. srun sets
    SLURM_PROCID, SLURM_STEP_NUM_TASKS and SLURM_LOCALID; for several machines a batch script has
    to export MASTER_ADDR; the port follows from the job's number.

    Raises:
        ConfigError: a variable is missing or not a number.
    """
    by_torchrun = "RANK" in environment and "WORLD_SIZE" in environment
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not by_torchrun:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    if environment.get(names[1], "1") == "1":
        return None
    rank, size, local_rank = (_number(environment, name) for name in names)
    if rank >= size:
        raise ConfigError(f"{names[0]}: got {rank}, but {names[1]} is {size}; ranks count from 0")
    if not by_torchrun:
        return Launch(rank, size, local_rank, f"tcp://{_address(environment)}:{_port(environment)}")
    # On several machines torchrun may count restarts differently.
    one_machine = environment.get("GROUP_WORLD_SIZE", "1") == "1"
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if one_machine else "0"
    if "MASTER_PORT" in environment:
        _port(environment)  # which torch reads
    return Launch(rank, size, local_rank, "env://", attempt)


def _address(environment: Mapping[str, str]) -> str:
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"]
    if environment.get("SLURM_STEP_NUM_NODES", "1") == "1":
        return "127.0.0.1"
    raise ConfigError(
        "MASTER_ADDR is not set, so the processes cannot find each other; in the batch "
        'script: export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    )


def _port(environment: Mapping[str, str]) -> int:
    if "MASTER_PORT" in environment:
        port = _number(environment, "MASTER_PORT")
        if port >= 2**16:
            raise ConfigError(f"MASTER_PORT: got {port}, expected a number below {2**16}")
        return port
    # Jobs may share a machine. These ports are below the range that systems assign on their own.
    return 20000 + _number(environment, "SLURM_JOB_ID") % 12000


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(
            f"{name}: got {text!r}, expected a number; start several processes with torchrun, or "
            "with srun and one task per GPU"
        )
    return int(text)

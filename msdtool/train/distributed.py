"""Several processes that train one network, using torch.distributed alone.

Each process computes its share of every batch. The loss is made of sums over all shares, and the
gradients are averaged before each update, so that the result matches that of a single process with
the same batches up to rounding. All processes reach each event of the training loop together.

`torch.nn.parallel.DistributedDataParallel` is not used: it would import torch's compiler in every
process, for seconds, and its place for overlapping work has none to overlap with, as an MSD block
has all its gradients at the end of a backward pass. It also adds up gradients in another order
after its first step, so that a resumed run would have other bits.
"""

import datetime
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from msdtool.errors import ConfigError, Error, FailedElsewhere, TrainingError
from msdtool.nn.batch_norm import pool_batch_norms
from msdtool.train.processes import Launch, Processes

T = TypeVar("T")

TIMEOUT = datetime.timedelta(minutes=30)
"""Longest wait for another process. The death of a process is noticed within seconds, when its
connections are closed, at the latest after its data workers have noticed it too. This limit is for
a process that hangs; it must exceed any work of a single process, such as writing a checkpoint."""


class Distributed(Processes):
    """This process among several; see `Processes`.

    Args:
        launch: its place among them.
        timeout: longest wait for another process.

    Raises:
        TrainingError: it cannot connect to all other processes.
    """

    def __init__(self, launch: Launch, timeout: datetime.timedelta = TIMEOUT) -> None:
        self.rank, self.size, self.local_rank = launch.rank, launch.size, launch.local_rank
        # Kept because a thread of Gloo may hold a tensor for a moment longer than this process
        # needs it; if that thread released the last reference, it would run Python code, which
        # aborts a process that is shutting down.
        self._number = torch.zeros((), dtype=torch.float64)
        self._gradients = torch.zeros(0)
        try:
            store, *_ = next(
                iter(rendezvous(launch.meeting, launch.rank, launch.size, timeout=timeout))
            )
            dist.init_process_group(
                # Tensors on a GPU are sent by NCCL, all others by Gloo.
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                store=PrefixStore(launch.attempt, store),
                rank=launch.rank,
                world_size=launch.size,
                timeout=timeout,
            )
        except (RuntimeError, ValueError) as error:  # ValueError: a variable is missing
            raise TrainingError(
                f"process {launch.rank} of {launch.size} cannot connect to the other processes: "
                f"{_reason(error)}"
            ) from None

    def close(self) -> None:
        """Disconnect from the other processes when the work is done."""
        dist.destroy_process_group()

    def use_device(self, device: torch.device) -> None:
        """Make "cuda" refer to this process's GPU from now on.

        Raises:
            ConfigError: there are fewer GPUs than processes on this machine.
        """
        if device.type == "cuda":
            torch.cuda.set_device(_gpu(self.local_rank, torch.cuda.device_count()))

    def unite(self, network: nn.Module) -> None:
        """Pool the batches of batch norms, and take parameters and buffers of the main process."""
        pool_batch_norms(network)
        with _naming_the_cause():
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, 0)

    def average_gradients(self, network: nn.Module) -> None:
        """Replace gradients by their means, and buffers by those of the main process.

        Buffers differ where a layer keeps statistics of its own process's batches.
        """
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = self._gradients = torch.cat([gradient.flatten() for gradient in gradients])
        flat /= self.size
        with _naming_the_cause():
            dist.all_reduce(flat)
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, parts, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes; its gradient is right for means over processes."""
        with _naming_the_cause():
            total: Tensor = _Total.apply(values, self.size)
        return total

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is set on at least one process."""
        return bool(self.largest(float(flag)))

    def largest(self, value: float) -> float:
        """Return the largest of the processes' values."""
        self._number.fill_(value)
        with _naming_the_cause():
            dist.all_reduce(self._number, dist.ReduceOp.MAX)
        return float(self._number)

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of each process, in the order of ranks."""
        values: list[Any] = [None] * self.size
        with _naming_the_cause():
            dist.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """Run ``work`` on every process; if it fails on one, all fail."""
        try:
            result, error = work(), None
        except Error as problem:
            result, error = None, problem
        if not self.any(error is not None):  # a single number: this is asked at every batch
            return result  # type: ignore[return-value]  # None only with an error
        codes = self.gather(None if error is None else error.exit_code)
        failed = [rank for rank, code in enumerate(codes) if code is not None]
        if error is not None and failed[0] == self.rank:
            raise error
        raise FailedElsewhere(int(codes[failed[0]] or 1))

    def on_main(self, work: Callable[[], T]) -> T:
        """Run ``work`` on the main process and return its result on every process."""
        box = [self.together(work if self.is_main else lambda: None)]
        with _naming_the_cause():
            dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]  # the main process's

    def lost(self, error: RuntimeError) -> Error | None:
        """Return what to raise if torch raised ``error`` because a process died, else None."""
        # Gloo's errors are plain RuntimeErrors in some versions of torch.
        gone = isinstance(error, dist.DistError) or "gloo" in str(error).lower()
        return _lost_process(error) if gone else None


class _Total(torch.autograd.Function):
    """Sum over the processes.

    Every process computes the same loss L from the totals, and `average_gradients` takes the mean
    of their gradients: (1/n) sum_r g_r. With g_r = n * dL/dtotal * dpart_r/dw this is dL/dw.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, size: int) -> Tensor:
        ctx.size = size
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None]:
        return grad_total * ctx.size, None


@contextmanager
def _naming_the_cause() -> Iterator[None]:
    """Explain what it means when communication with other processes fails."""
    try:
        yield
    except RuntimeError as error:
        raise _lost_process(error) from None


def _lost_process(error: RuntimeError) -> TrainingError:
    return TrainingError(
        f"another worker died or hangs ({_reason(error)}); check its log, then resume the run",
        hint_key="resume",
    )


def _reason(error: Exception) -> str:
    """The first sentence of an error, without its location in torch's sources."""
    first = str(error).strip().split("\n")[0].split(". ")[0]
    return re.sub(r"\[[^\]]*:\d+\] ", "", first)


def _gpu(local_rank: int, count: int) -> int:
    """The index of this process's GPU among the visible ones."""
    if count == 1:
        return 0  # the launcher may show each process only its own GPU
    if local_rank >= count:
        raise ConfigError(
            f"process {local_rank + 1} of this machine finds only {count} GPUs; start one process "
            "per GPU, or set training.device: cpu"
        )
    return local_rank

"""Several processes that train one network, through torch.distributed and nothing else.

Each takes its share of every batch. The loss is made of sums over all shares, and
DistributedDataParallel averages its gradients, so that the result is that of one process with the
same batches, to rounding. At each event of the training loop all processes are at the same point.
"""

import datetime
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from msdtool.errors import ConfigError, Error, FailedElsewhere, TrainingError
from msdtool.nn.batch_norm import pool_batch_norms
from msdtool.train.processes import Launch, Processes

T = TypeVar("T")

TIMEOUT = datetime.timedelta(minutes=30)
"""Longest wait for another process. One that has died is noticed once its connections close, at the
latest when its data workers have noticed, too, which takes seconds; this is for one that hangs, and
must be longer than what only one of them does, such as writing a checkpoint."""

ONE_BUCKET_MB = 2**20
"""More than any network's gradients."""


class Distributed(Processes):
    """This process among others; see `Processes`.

    Args:
        launch: its place.
        timeout: longest wait for another process.

    Raises:
        TrainingError: not all processes came.
    """

    def __init__(self, launch: Launch, timeout: datetime.timedelta = TIMEOUT) -> None:
        self.rank, self.size, self.local_rank = launch.rank, launch.size, launch.local_rank
        self._number = torch.zeros((), dtype=torch.float64)  # one, for the reason of `_Gradients`
        try:
            store, *_ = next(
                iter(rendezvous(launch.meeting, launch.rank, launch.size, timeout=timeout))
            )
            dist.init_process_group(
                # What is on a GPU goes by NCCL, all else by Gloo.
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                store=PrefixStore(launch.attempt, store),
                rank=launch.rank,
                world_size=launch.size,
                timeout=timeout,
            )
        except RuntimeError as error:
            raise TrainingError(
                f"process {launch.rank} of {launch.size} does not find the others: {_reason(error)}"
            ) from None

    def close(self) -> None:
        """Part from the other processes; for when the work is done."""
        dist.destroy_process_group()

    def use_device(self, device: torch.device) -> None:
        """Have "cuda" mean this process's GPU from now on.

        Raises:
            ConfigError: there are fewer GPUs than processes on this machine.
        """
        if device.type == "cuda":
            torch.cuda.set_device(_gpu(self.local_rank, torch.cuda.device_count()))

    def parallel(self, network: nn.Module) -> nn.Module:
        """Wrap the network in DistributedDataParallel; its parameters become those of rank 0.

        Its batch norms take the batches of all processes together from now on.
        """
        pool_batch_norms(network)
        with _naming_the_cause():
            wrapped = DistributedDataParallel(network, bucket_cap_mb=ONE_BUCKET_MB)
        wrapped.register_comm_hook(_Gradients(list(network.parameters())), _mean_in_fixed_order)
        return wrapped

    def accumulating(self, network: nn.Module) -> AbstractContextManager[None]:
        """While it lasts, the gradients of ``network``, a result of `parallel`, stay local."""
        assert isinstance(network, DistributedDataParallel)
        return network.no_sync()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes; its gradient is right for means over processes."""
        with _naming_the_cause():
            total: Tensor = _Total.apply(values, self.size)
        return total

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set on one process at least."""
        return bool(self.largest(float(flag)))

    def largest(self, value: float) -> float:
        """The largest of the processes' values."""
        self._number.fill_(value)
        with _naming_the_cause():
            dist.all_reduce(self._number, dist.ReduceOp.MAX)
        return float(self._number)

    def gather(self, value: T) -> list[T]:
        """The ``value`` of each process, in the order of their ranks."""
        values: list[Any] = [None] * self.size
        with _naming_the_cause():
            dist.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """Do ``work`` on every process; if one fails, all do."""
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
        """Do ``work`` on the main process and return its result on every one."""
        box = [self.together(work if self.is_main else lambda: None)]
        with _naming_the_cause():
            dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]  # the main process's

    def lost(self, error: RuntimeError) -> Error | None:
        """What to tell when torch raised ``error`` because another process is gone, else None."""
        # Gloo's errors are plain RuntimeErrors in some versions of torch.
        gone = isinstance(error, dist.DistError) or "gloo" in str(error).lower()
        return _lost_process(error) if gone else None


@dataclass
class _Gradients:
    """What a process's gradients are averaged in.

    Attributes:
        parameters: of the network, in their order.
        flat: their gradients one after the other. It is kept, because a thread of Gloo may hold it
            for a moment longer than this process needs it; were it the last to let go of it, it
            would run Python, on which a process that is just ending aborts.
    """

    parameters: list[nn.Parameter]
    flat: Tensor = field(default_factory=lambda: torch.zeros(0))


def _mean_in_fixed_order(
    gradients: _Gradients,
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # torch's own stubs lack it
) -> torch.futures.Future[Tensor]:
    """Replace a bucket's gradients by their means over the processes.

    Where a gradient lies decides in which order three or more processes add it up, and so how it is
    rounded. DistributedDataParallel moves them after the first step; a resumed run has another
    first step, and would come to other bits. Here they always lie in the order of the parameters.

    There is one bucket, the last thing of a backward pass: nothing could be done meanwhile.
    """
    of_parameter = dict(zip(bucket.parameters(), bucket.gradients(), strict=True))
    parts = [of_parameter[p] for p in gradients.parameters if p in of_parameter]
    flat = gradients.flat = torch.cat([part.flatten() for part in parts])
    flat /= dist.get_world_size()
    dist.all_reduce(flat)
    for part, mean in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
        part.copy_(mean.view_as(part))
    done: torch.futures.Future[Tensor] = torch.futures.Future(
        devices=[flat.device] if flat.is_cuda else None
    )
    done.set_result(bucket.buffer())
    return done


class _Total(torch.autograd.Function):
    """Sum over the processes.

    Every process computes the same loss L from the totals, and DistributedDataParallel takes the
    mean of their gradients: (1/n) sum_r g_r. With g_r = n * dL/dtotal * dpart_r/dw this is dL/dw.
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
    """Say what it means when a message to other processes fails."""
    try:
        yield
    except RuntimeError as error:
        raise _lost_process(error) from None


def _lost_process(error: RuntimeError) -> TrainingError:
    return TrainingError(
        "another process of this training ended or hangs: see what it, or the system, says of it, "
        f"then go on with --resume ({_reason(error)})"
    )


def _reason(error: RuntimeError) -> str:
    """The first sentence of an error, without the place in torch's sources."""
    first = str(error).strip().split("\n")[0].split(". ")[0]
    return re.sub(r"\[[^\]]*:\d+\] ", "", first)


def _gpu(local_rank: int, count: int) -> int:
    """Which of the visible GPUs is this process's."""
    if count == 1:
        return 0  # the launcher may show each process its own GPU alone
    if local_rank >= count:
        raise ConfigError(
            f"process {local_rank + 1} of this machine finds only {count} GPUs; start one process "
            "per GPU, or set training.device: cpu"
        )
    return local_rank

"""Updates whose loss has not been read yet.

To read a number from a GPU is to wait until it is there, and a GPU that is waited for has nothing
to do when the next update is prepared. So an update's loss is copied to the host when it is
computed, and read after the following update was started.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Update:
    """An update that was started.

    Attributes:
        step: its number, from 1.
        epoch: the epoch, from 1.
        indices: the images of its batches, on this process.
        read: waits for the losses of its batches and the norm of its gradient, and returns them.
    """

    step: int
    epoch: int
    indices: list[int]
    read: Callable[[], list[float]]


def reading(values: Sequence[Tensor]) -> Callable[[], list[float]]:
    """Start to copy single numbers to the host.

    Returns:
        A function that waits for this copy, but for nothing that is started later, and returns
        the numbers.
    """
    copied = torch.stack([value.detach().double() for value in values])
    if copied.device.type != "cuda":
        return copied.tolist
    host = torch.empty(copied.shape, dtype=copied.dtype, pin_memory=True)
    host.copy_(copied, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(copied.device))

    def read() -> list[float]:
        done.synchronize()
        return host.tolist()

    return read

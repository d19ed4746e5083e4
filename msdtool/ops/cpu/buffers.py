"""Memory of the large buffers on the CPU, kept from one step to the next.

The system reclaims large memory at once, and zeros it page by page when it is requested again. On a
virtual machine, whose host also has to find the pages, that took a third of a step on 2048 x 2048
pixels. So what one step frees is kept for the next, which requests the same sizes.
"""

import os
import threading
import weakref

import torch
from torch import Tensor

# The C library keeps smaller blocks itself.
LEAST_BYTES = 2**22
# A step needs two: all channels, and their gradients.
MAX_SPARE = 4

_spare: list[Tensor] = []
_lock = threading.RLock()


def new_buffer(*shape: int, like: Tensor) -> Tensor:
    """Uninitialised tensor, perhaps in the memory of one that no longer exists.

    A few blocks are kept until another size is requested, so changing sizes take no more memory
    than without.

    Args:
        shape: of the tensor.
        like: has its dtype and device.
    """
    num_bytes = torch.Size(shape).numel() * like.element_size()
    # A tensor of another class may be fake; what it makes must be so, too.
    is_plain = type(like) in (Tensor, torch.nn.Parameter) and like.device.type == "cpu"
    if not is_plain or num_bytes < LEAST_BYTES:
        return like.new_empty(shape)
    memory = _take(num_bytes)
    # Torch keeps the array as long as there is a view of it; after that the memory is spare.
    array = memory.numpy()
    weakref.finalize(array, _give_back, memory).atexit = False
    return torch.from_numpy(array).view(like.dtype).view(shape)


def _give_back(memory: Tensor) -> None:
    # Without the lock: this may run in the middle of code that holds it.
    _spare.append(memory)
    if len(_spare) > MAX_SPARE:
        del _spare[:1]


def release_spare() -> None:
    """Return spare memory to the system."""
    with _lock:
        _spare.clear()


def _take(num_bytes: int) -> Tensor:
    with _lock:
        for index, memory in enumerate(_spare):
            if memory.nbytes == num_bytes:
                return _spare.pop(index)
        _spare.clear()
    return torch.empty(num_bytes, dtype=torch.uint8, device="cpu")


def _before_fork() -> None:
    # A forked process would keep the pages alive, and the next step would copy each of them. Nor
    # must it find the lock held by a thread that it does not have.
    _lock.acquire()
    _spare.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
    )

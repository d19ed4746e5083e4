"""Parts of shared buffers that a backward pass needs, and a guard that notices if they change.

torch counts the changes of a tensor, and one counter serves all slices of a buffer. A layer that
writes its own channels thereby marks those before it as changed, which its backward needs and which
are as they were. So what lies in a buffer beside other things is not saved by
``save_for_backward``, which would refuse it, but kept here. The functions of this package say what
they write (`writing`), and a part counts as changed only if it was written to, or if its counter
moved for any other reason.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from torch import Tensor

from msdtool.ops.checks import overlap


class _Buffer:
    """The parts of one allocation that graphs keep; it lives as long as one of them."""

    def __init__(self) -> None:
        self.parts: WeakSet[Kept] = WeakSet()


_buffers: WeakValueDictionary[int, _Buffer] = WeakValueDictionary()
_lock = threading.Lock()  # graphs may be freed by the threads of backward passes


class Kept:
    """A part of a buffer as it is now.

    Args:
        part: any slice; shares the buffer's version counter.
        pending: changes that torch will count after this moment although nothing is written.

    Attributes:
        awaited: no backward pass has read it yet.
    """

    def __init__(self, part: Tensor, pending: int = 0) -> None:
        self.part = part.detach()
        self.version = part._version + pending
        self.written = False
        self.awaited = True
        with _lock:
            address = part.untyped_storage().data_ptr()
            self.buffer = _buffers.setdefault(address, _Buffer())
            self.buffer.parts.add(self)

    def get(self) -> Tensor:
        """Return the part to a backward pass.

        Raises:
            RuntimeError: it has been written to since; the words are those of torch.
        """
        self.awaited = False
        if self.written or self.part._version != self.version:
            raise RuntimeError(
                "a part of a buffer that is needed for gradient computation has been modified by "
                f"an inplace operation: {tuple(self.part.shape)} {self.part.dtype}. Call "
                "backward() before the next pass through the buffer, or give each pass its own"
            )
        return self.part


@contextmanager
def writing(part: Tensor, pending: int = 0) -> Iterator[None]:
    """Mark what the body does as a change of ``part``, and of nothing else in its buffer.

    Args:
        part: the slice that the body writes.
        pending: changes of the counter that torch adds after the body.
    """
    parts = _kept_with(part)
    before = [kept.part._version for kept in parts]
    yield
    for kept, version in zip(parts, before, strict=True):
        kept.written = kept.written or overlap(kept.part, part)
        moved = kept.part._version - version
        if moved:  # they share a counter, unlike ``part.data`` and its buffer
            kept.version += moved + pending


def in_use(buffer: Tensor) -> bool:
    """Whether a graph keeps a part of the buffer for a backward pass that has not begun."""
    return any(kept.awaited for kept in _kept_with(buffer))


def _kept_with(part: Tensor) -> list[Kept]:
    with _lock:
        buffer = _buffers.get(part.untyped_storage().data_ptr())
        return [] if buffer is None else list(buffer.parts)


def save(ctx: Any, *tensors: Tensor | None) -> None:
    """Save tensors for the backward pass of an autograd function; `saved` returns them."""
    recorded = any(ctx.needs_input_grad)
    ctx.kept = [None if t is None or _is_alone(t) or not recorded else Kept(t) for t in tensors]
    ctx.save_for_backward(
        *(t if kept is None else None for t, kept in zip(tensors, ctx.kept, strict=True))
    )


def saved(ctx: Any) -> tuple[Tensor | None, ...]:
    """Return what `save` was given.

    Raises:
        RuntimeError: something has changed since, or the graph is freed.
    """
    pairs = zip(ctx.saved_tensors, ctx.kept, strict=True)
    return tuple(tensor if kept is None else kept.get() for tensor, kept in pairs)


def _is_alone(tensor: Tensor) -> bool:
    """Whether nothing else lies in the tensor's memory."""
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()

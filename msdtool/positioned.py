"""Reading and writing at a place in a file, by several threads at once, on every system.

Windows has no call that moves bytes and leaves the file's position alone: there, threads take
turns.
"""

import os
import threading
from collections.abc import Sequence
from typing import Any

BINARY = getattr(os, "O_BINARY", 0)
"""To open a file with: Windows would otherwise change what looks like the end of a line."""

_one_at_a_time = threading.Lock()


def read_at(file: int, buffers: Sequence[Any], offset: int) -> int:
    """Fill buffers with the bytes from ``offset`` on; return their number, fewer at the end.

    Raises:
        OSError: the file cannot be read.
    """
    if hasattr(os, "preadv"):
        return os.preadv(file, buffers, offset)
    with _one_at_a_time, open(file, "rb", buffering=0, closefd=False) as raw:
        raw.seek(offset)
        return sum(raw.readinto(buffer) for buffer in buffers)


def write_at(file: int, buffers: Sequence[Any], offset: int) -> int:
    """Write buffers one after another from ``offset`` on; return the number of bytes written.

    It is smaller than that of all buffers where the system writes a part only.

    Raises:
        OSError: the file cannot be written.
    """
    if hasattr(os, "pwritev"):
        return os.pwritev(file, buffers, offset)
    written = 0
    with _one_at_a_time, open(file, "r+b", buffering=0, closefd=False) as raw:
        raw.seek(offset)
        for buffer in buffers:
            part = raw.write(buffer)
            written += part
            if part < memoryview(buffer).nbytes:
                break
    return written

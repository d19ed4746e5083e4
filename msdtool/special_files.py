"""Pipes, sockets and devices: they have names as files have, but may never end or never begin."""

import errno
import os
import select
import stat
from pathlib import Path

SECONDS_TO_WAIT = 10.0
"""How long a pipe may be silent."""
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special(status: os.stat_result) -> None:
    """Raise OSError unless a path is that of a file or folder; see `os.stat`."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}; save what it contains as a file")


def read_start(path: Path, limit: int) -> bytes:
    """Read a file to its end, or its first ``limit`` bytes; a pipe is read, too.

    Raises:
        OSError: it cannot be read, is a socket or device, or is a pipe that nothing comes from.
    """
    status = path.stat()
    if stat.S_ISFIFO(status.st_mode):
        return _read_pipe(path, limit)
    refuse_special(status)
    with path.open("rb") as file:
        return file.read(limit)


def _read_pipe(path: Path, limit: int) -> bytes:
    content = b""
    # Opened in the usual way, a pipe waits for someone to write, if need be for ever.
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while len(content) < limit:
            if not select.select([pipe], [], [], SECONDS_TO_WAIT)[0]:
                raise OSError(
                    errno.ETIMEDOUT, f"it is a pipe, and nothing came for {SECONDS_TO_WAIT:g} s"
                )
            part = os.read(pipe, limit - len(content))
            if not part:
                break
            content += part
    finally:
        os.close(pipe)
    return content

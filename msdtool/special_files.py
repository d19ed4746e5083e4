"""Pipes, sockets and devices: they have names as files have, but may never end or never begin."""

import errno
import os
import select
import stat
from io import BufferedReader, TextIOWrapper
from pathlib import Path

SECONDS_TO_WAIT = 10.0
"""How long a pipe may be silent."""
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_special(status: os.stat_result, advice: str = "save what it contains as a file") -> None:
    """Raise OSError with an advice unless a path is that of a file or folder; see `os.stat`."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}; {advice}")


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


def open_regular(path: Path) -> BufferedReader:
    """Open a file of our own, which is never a pipe, socket or device, to read its bytes.

    Raises:
        OSError: it is one, or cannot be opened.
    """
    refuse_special(path.stat())
    return path.open("rb")


def append_to_regular(path: Path, errors: str = "strict") -> TextIOWrapper:
    """Open a file of our own, which is made if there is none, to append text in UTF-8.

    Args:
        path: the file.
        errors: what becomes of text that is not Unicode; see `open`.

    Raises:
        OSError: it is a pipe, socket or device, or cannot be opened.
    """
    if path.exists():
        refuse_special(path.stat(), "remove it")
    return path.open("a", encoding="utf-8", errors=errors)


def read_regular(path: Path, limit: int) -> bytes:
    """Read a file of our own to its end.

    Raises:
        OSError: it cannot be read, is a pipe, socket or device, or is larger than ``limit`` bytes.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it exceeds the limit of {limit // 10**6} MB")
    return content


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

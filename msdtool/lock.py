"""Locks between processes: of a run, of a result, of work that is kept on disk."""

import errno
import logging
import os
import socket
import weakref
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

LOCK_NAME = ".lock"
"""The lock of a folder; a killed process leaves it behind, which does no harm."""
LEASE_SUFFIX = ".lease"
LEASE_SECONDS = 60.0
"""Without system locks, a process on another machine is presumed dead after this long."""
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

_log = logging.getLogger(__name__)


class InUseError(Exception):
    """Another process holds a lock; the text says which: "process 12 on node7"."""


class Lock:
    """A lock that the system releases when the process ends for any reason.

    A process forked from the holder does not hold it. Where the file system has no locks, a file
    that its holder refreshes serves instead: one that a killed process left is taken over, at once
    on the same machine, otherwise after `LEASE_SECONDS` in which it was not refreshed. A holder
    that was only suspended continues, so what is locked must tolerate two writers.

    Args:
        path: the file to lock; its folder is created if missing.

    Attributes:
        release: call it to let others in; dropping the last reference to the lock does so, too. It
            removes the file, and folders that were created for it and are empty.

    Raises:
        InUseError: another process, or another lock of this one, holds it.
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        _log.debug("%s: is locked", path)
        created = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = _acquire(path)
        except BaseException:
            _remove_empty(created)
            raise
        self.release = weakref.finalize(self, _release, lock, created, os.getpid())


def has_trace(path: Path) -> bool:
    """Whether a process holds the lock of a file, or was killed while it did."""
    return path.exists() or path.with_name(f"{path.name}{LEASE_SUFFIX}").exists()


def _acquire(path: Path) -> BaseFileLock:
    lock = FileLock(path, fallback_to_soft=False, thread_local=False, on_acquired=_sign)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InUseError(_holder(path)) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        path.unlink(missing_ok=True)
        return _acquire_lease(path.with_name(f"{path.name}{LEASE_SUFFIX}"))
    return lock


def _sign(file: int) -> None:
    """Write into the file of a lock who holds it."""
    # By its descriptor: a link may have taken the place of the name.
    if os.fstat(file).st_nlink == 1:
        with suppress(OSError):  # the disk may be full
            os.truncate(file, 0)
            os.write(file, f"{os.getpid()} {socket.gethostname()}".encode())


def _holder(path: Path) -> str:
    """Say who holds the lock of a file."""
    with suppress(OSError, ValueError):
        process, host = path.read_text(encoding="utf-8").split()
        return f"process {process} on {host}"
    return "another process"


def _acquire_lease(path: Path) -> BaseFileLock:
    lease = SoftFileLease(path, lease_duration=LEASE_SECONDS, thread_local=False)
    try:
        try:
            lease.acquire(blocking=False)
        except Timeout:
            if lease.owner is not None and _host(lease.owner.hostname) == socket.gethostname():
                raise
            _log.info("%s: checking whether its holder on another machine is still running", path)
            lease.acquire(timeout=LEASE_SECONDS * 1.2)
    except Timeout:
        owner = lease.owner
        raise InUseError(
            f"process {owner.pid} on {_host(owner.hostname)}" if owner else "another process"
        ) from None
    return lease


def _host(name: str) -> str:
    """The name of a machine without what tells its containers apart."""
    return name.partition("?")[0]


def _release(lock: BaseFileLock, created: list[Path], process: int) -> None:
    if not lock.is_locked or os.getpid() != process:
        return
    if not isinstance(lock, SoftFileLease):
        # Before the lock is released: afterwards the file may be another process's.
        with suppress(OSError):  # Windows keeps files that are open
            Path(lock.lock_file).unlink()
    lock.release()
    _remove_empty(created)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it is not empty
            folder.rmdir()

"""A folder that one process at a time may write to."""

import os
import sys
import weakref
from pathlib import Path

from msdtool.errors import RunDirectoryError

if sys.platform != "win32":
    import fcntl


class FolderLock:
    """A lock that the system takes back when the process ends, however that happens.

    It keeps off other processes of the same machine; nobody on Windows, or where the disk has no
    locks.

    Args:
        path: the folder.

    Attributes:
        release: call it to let others in; a lock that nothing refers to lets them in, too.

    Raises:
        RunDirectoryError: another process holds it.
        OSError: there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        if sys.platform == "win32":
            self.release = weakref.finalize(self, int)
            return
        descriptor = os.open(path, os.O_RDONLY)
        self.release = weakref.finalize(self, os.close, descriptor)
        _held.add(self)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise RunDirectoryError(
                f"{path}: another process trains there now; wait for it to end, end it, or choose "
                "another place with --run-dir"
            ) from None
        except OSError:
            self.release()


_held: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A process that reads images for another must not keep the folder when that is killed."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

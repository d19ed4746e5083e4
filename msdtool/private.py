"""Files in folders that others may write to, where another user may have planted a trap.

A link, symbolic or hard, under a name that we use would make us overwrite its target.
"""

import errno
import os
import stat
from pathlib import Path

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""For `os.open`: refuse links. Windows has no such flag."""


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user and has one name; see `os.lstat`."""
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return False
    return stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)


def private_folder(path: Path) -> None:
    """Create a folder that only this user can enter, or make sure that it is one.

    Raises:
        PermissionError: it exists but belongs to another user, or is not a folder.
        OSError: it cannot be created.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or not is_own(status):
            raise PermissionError(
                errno.EPERM, f"{path} is not a folder owned by this user", str(path)
            ) from None
    if hasattr(os, "geteuid") and path.lstat().st_mode & 0o077:
        path.chmod(0o700)

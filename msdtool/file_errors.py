"""What the system says about a file, as an `Error` that names the file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msdtool.errors import ConfigError, Error

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def cannot_write(
    path: object, kind: type[Error] = Error, *, hint_key: str = "", doing: str = "written"
) -> Iterator[None]:
    """Turn an OSError of the block into an error about ``path``.

    Args:
        path: the file or folder, as the message names it.
        kind: the error to raise.
        hint_key: what the message of a full disk advises to use; see `Error`.
        doing: what cannot be done to the file.

    Raises:
        Error: of ``kind``, for example because the disk is full.
        ConfigError: something of that name exists and must not be replaced.
    """
    try:
        yield
    except FileExistsError as error:
        raise (ConfigError if kind is Error else kind)(
            f"{path}: cannot be {doing}: {error.strerror}"
        ) from None
    except OSError as error:
        # numpy counts the bytes that are missing where the system would say why.
        reason = error.strerror or f"{error}; is the disk full?"
        message = f"{path}: cannot be {doing}: {reason}"
        if error.errno in NO_SPACE and hint_key:
            message = f"{message}; free some space, then resume"
            raise kind(message, hint_key=hint_key) from None
        raise kind(message) from None


@contextmanager
def cannot_read(path: object, kind: type[Error], *, advice: str = "") -> Iterator[None]:
    """Turn an OSError of the block that the system explains into an error about ``path``.

    Decoders raise OSError without a number for what they find in a file; that passes through.

    Args:
        path: the file, as the message names it; None: the one that the system names.
        kind: the error to raise.
        advice: what to do if there is no such file.

    Raises:
        Error: of ``kind``: there is no such file, no permission to read it, or the like.
    """
    try:
        yield
    except OSError as error:
        problem = _reading_problem(error, advice)
        if problem is None:
            raise
        raise kind(f"{error.filename if path is None else path}: {problem}") from None


def _reading_problem(error: OSError, advice: str) -> str | None:
    match error:
        case FileNotFoundError():
            return f"no such file; {advice}" if advice else "no such file"
        case IsADirectoryError():
            return "is a folder, not a file"
        case PermissionError():
            return "no permission to read it"
        case _:
            return None if error.errno is None else f"cannot be read: {error.strerror}"


def expand_home(path: str | Path, kind: type[Error]) -> Path:
    """Return a path with a leading ``~`` or ``~name`` replaced by the home folder of that user.

    Args:
        path: the path.
        kind: the error to raise.

    Raises:
        Error: of ``kind``: the user, or the home folder, is not known here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        raise kind(
            f"{path}: the home folder {user} is not known here; write the folder's path in full, "
            f"or ./{user} for a folder of that name"
        ) from None

"""What all data sets write."""

from collections.abc import Sequence
from pathlib import Path

from msdtool.atomic import atomic_path
from msdtool.errors import RunDirectoryError
from msdtool.file_errors import cannot_write


def begin(path: Path, text: str, names: Sequence[str]) -> Path:
    """Write a config to train on a data set that is about to be made; return its path.

    It comes first, and tells by its presence that what lies beside it is a data set's.

    Args:
        path: of the config.
        text: the config.
        names: of the files and folders that are made beside it.

    Raises:
        RunDirectoryError: the folder holds files that are not of this data set.
    """
    kept = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    others = [name for name in names if kept is None and (path.parent / name).exists()]
    if kept not in (None, text) or others:
        found = path if not others else path.parent / others[0]
        raise RunDirectoryError(
            f"{found}: exists and is not what this data set puts there; choose another folder, or "
            "remove it"
        )
    with cannot_write(path), atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path

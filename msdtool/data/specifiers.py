"""Specifiers to file paths: a glob pattern, a folder, a file, or a list of these."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from natsort import natsorted, ns

from msdtool.errors import InputError

Specifier = str | Path | Sequence[str | Path]


def expand(specifier: Specifier) -> list[Path]:
    """Return the files that a specifier names, each item's in natural order.

    ``~`` is expanded and links are followed; ``**`` matches any number of folders. A path that
    exists is taken as it is, even if it holds characters that a glob pattern uses. A folder stands
    for the files in it that are not hidden.

    Raises:
        InputError: an item names no file.
    """
    items = [specifier] if isinstance(specifier, (str, Path)) else list(specifier)
    if not items:
        raise InputError("the list of input paths is empty; name at least one file")
    try:
        return [path for item in items for path in _expand_item(item)]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _expand_item(item: str | Path) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_dir():
        files = [file for file in path.iterdir() if _is_image_file(file)]
        if not files:
            raise InputError(f"{path}: the folder holds no files")
    elif path.exists():
        return [path]
    elif glob.has_magic(str(path)):
        matches = (Path(match) for match in glob.iglob(str(path), recursive=True))
        files = [file for file in matches if _is_image_file(file)]
        if not files:
            raise InputError(f"{item}: no file matches{_nearest_folder(path)}")
    else:
        raise InputError(f"{path}: no such file or folder{_nearest_folder(path)}")
    return natsorted(files, key=os.fspath, alg=ns.PATH)


def _is_image_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _nearest_folder(path: Path) -> str:
    """Say where a path stops being right, so that the mistake can be seen."""
    folder = path.parent
    while not folder.is_dir():
        if folder == folder.parent or glob.has_magic(folder.name):
            return ""
        missing, folder = folder, folder.parent
        if folder.is_dir():
            return f"; the folder {folder} has no {missing.name!r} in it"
    names = natsorted(file.name for file in folder.iterdir())
    if not names:
        return f"; the folder {folder} is empty"
    return f"; the folder {folder} holds {len(names)} others, such as {names[0]}"

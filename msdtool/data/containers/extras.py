"""Optional packages that only some file formats need."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from msdtool.errors import InputError

MAX_NAMED = 8


def load_extra(name: str, path: Path) -> Any:
    """Import h5py or zarr.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise InputError(
            f"{path}: needs the package {name}, which is not installed; "
            "install it with: pip install 'msdtool[volumes]'"
        ) from None


def pick(path: Path, names: Sequence[str]) -> str:
    """Return the name of the only array in a file.

    Raises:
        InputError: it contains none or several.
    """
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"{path}: holds no array of numbers with two or more dimensions")
    shown = ", ".join(names[:MAX_NAMED]) + (" ..." if len(names) > MAX_NAMED else "")
    raise InputError(
        f"{path}: holds {len(names)} arrays: {shown}; select one, such as {path.name}::{names[0]}"
    )

"""Optional packages that only some file formats need."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from msdtool.errors import InputError
from msdtool.wording import size_text

MAX_NAMED = 8
EXTRAS = {
    "h5py": "volumes",
    "zarr": "volumes",
    "hdf5plugin": "codecs",
    "imagecodecs": "codecs",
    "mrcfile": "mrc",
    "nibabel": "nifti",
    "nrrd": "nrrd",
    "fabio": "detectors",
}
"""The extra of msdtool that brings each package."""


def load_extra(name: str, path: Path) -> Any:
    """Import one of `EXTRAS`, or a module of it.

    Raises:
        InputError: it is not installed, or broken.
    """
    try:
        return import_module(name)
    except Exception as error:  # whatever a package raises that does not fit the others
        package = name.split(".", maxsplit=1)[0]
        raise InputError(f"{path}: needs {package_problem(package, error)}") from None


def package_problem(package: str, error: Exception) -> str:
    """Say why one of `EXTRAS` could not be imported, and the cure."""
    install = f"pip install 'msdtool[{EXTRAS[package]}]'"
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"the package {package}, which is not installed; install it with: {install}"
    if isinstance(error, OSError) and error.filename is not None:  # of a cache folder in the home
        return (
            f"the package {package}, which cannot be imported: {error.filename}: {error.strerror}. "
            "Set MSDTOOL_CACHE to a folder that you may write to"
        )
    return (
        f"the package {package}, which is installed but broken ({type(error).__name__}: {error}); "
        f"remove it with: pip uninstall {package}; then {install}"
    )


def pick(path: Path, shapes: Mapping[str, Sequence[int] | None]) -> str:
    """Return the name of the only array in a file.

    Args:
        path: the file.
        shapes: the shape of each array by its name; None: unknown.

    Raises:
        InputError: it contains none or several.
    """
    names = list(shapes)
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"{path}: holds no array of numbers with two or more dimensions")
    shown = [
        name if shape is None else f"{name} ({size_text(shape)})" for name, shape in shapes.items()
    ]
    held = ", ".join(shown[:MAX_NAMED]) + (" ..." if len(names) > MAX_NAMED else "")
    raise InputError(
        f"{path}: holds {len(names)} arrays: {held}; select one, such as {path.name}::{names[0]}"
    )

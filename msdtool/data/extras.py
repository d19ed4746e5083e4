"""Optional packages that only some file formats and commands need."""

from importlib import import_module
from pathlib import Path
from typing import Any

from msdtool.errors import InputError

EXTRAS = {
    "h5py": "volumes",
    "zarr": "volumes",
    "hdf5plugin": "codecs",
    "imagecodecs": "codecs",
    "mrcfile": "mrc",
    "nibabel": "nifti",
    "nrrd": "nrrd",
    "fabio": "detectors",
    "pylibCZIrw": "czi",
    "liffile": "lif",
    "nd2": "nd2",
    "cc3d": "objects",
    "onnx": "export",
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

"""Versions of the packages that results depend on, for checkpoints and environment.json."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("msdtool", "torch", "numpy", "tifffile", "imageio")


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`, by name."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found

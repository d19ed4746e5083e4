"""Versions of the packages that results depend on, for checkpoints and environment.json."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("msdtool", "torch", "numpy", "tifffile", "imageio")


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES`, by name."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


@cache
def _version(package: str) -> str:
    # To look one up takes milliseconds, and every result names one.
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

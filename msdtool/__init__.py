"""Mixed-Scale Dense networks for image-to-image tasks: train, apply and measure them.

Importing this package is cheap: torch is imported with the first name that needs it.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msdtool.errors import InputError

if TYPE_CHECKING:
    from msdtool.data import ImageDataset, ImageStack
    from msdtool.models import MSDModel, MSDRegressionModel, MSDSegmentationModel
    from msdtool.predict.arrays import load

    __version__: str

__all__ = [
    "ImageDataset",
    "ImageStack",
    "InputError",
    "MSDModel",
    "MSDRegressionModel",
    "MSDSegmentationModel",
    "load",
]

_HOMES = {
    "ImageDataset": "msdtool.data",
    "ImageStack": "msdtool.data",
    "MSDModel": "msdtool.models",
    "MSDRegressionModel": "msdtool.models",
    "MSDSegmentationModel": "msdtool.models",
    "load": "msdtool.predict.arrays",
}


def _share_cache() -> None:
    """Let the packages that we use keep their files in MSDTOOL_CACHE, too, if it is set.

    Without a home that may be written to, CuPy cannot be imported, nor zarr, which imports it.
    """
    chosen = os.environ.get("MSDTOOL_CACHE")
    if chosen:
        folder = Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111 - "~nobody" is no error
        os.environ.setdefault("CUPY_CACHE_DIR", str(folder / "cupy"))
        os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))


_share_cache()


def __getattr__(name: str) -> Any:
    # Resolved on first use: `msdtool --help` imports this package and must not import torch.
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'msdtool' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - takes 20 ms

    try:
        return version("msdtool")
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "0+unknown"

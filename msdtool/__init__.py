"""Mixed-Scale Dense networks for image-to-image work: train, apply and measure them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from msdtool.errors import InputError

if TYPE_CHECKING:
    from msdtool.data import ImageDataset, ImageStack
    from msdtool.models import MSDModel, MSDRegressionModel, MSDSegmentationModel

__all__ = [
    "ImageDataset",
    "ImageStack",
    "InputError",
    "MSDModel",
    "MSDRegressionModel",
    "MSDSegmentationModel",
]

_HOMES = {
    "ImageDataset": "msdtool.data",
    "ImageStack": "msdtool.data",
    "MSDModel": "msdtool.models",
    "MSDRegressionModel": "msdtool.models",
    "MSDSegmentationModel": "msdtool.models",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `msdtool --help` imports this package and must not import torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'msdtool' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

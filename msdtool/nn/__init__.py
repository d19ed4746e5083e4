"""Modules that networks are made of."""

from msdtool.nn.msd import (
    MSDBlock2d,
    MSDBlock3d,
    MSDFinalLayer,
    MSDModule,
    MSDModule2d,
    init_convolution_weights,
    units_in_front,
)
from msdtool.nn.scaling import scaling_module

__all__ = [
    "MSDBlock2d",
    "MSDBlock3d",
    "MSDFinalLayer",
    "MSDModule",
    "MSDModule2d",
    "init_convolution_weights",
    "scaling_module",
    "units_in_front",
]

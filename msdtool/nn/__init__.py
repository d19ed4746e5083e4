"""The modules that networks consist of."""

from msdtool.nn.inplace import Conv2dInPlaceModule, ConvRelu2dInPlaceModule, ReLUInplaceModule
from msdtool.nn.msd import (
    MSDBlock2d,
    MSDBlock3d,
    MSDFinalLayer,
    MSDModule,
    MSDModule2d,
    init_convolution_weights,
    msdblock2d,
    units_in_front,
)
from msdtool.nn.scaling import scaling_module
from msdtool.nn.stitch import MSDLayerModule, StitchBuffer, StitchCopyModule, StitchLazyModule
from msdtool.ops.layers.inplace import (
    Conv2dInPlaceFunction,
    ConvRelu2dInPlaceFunction,
    ReLUInplaceFunction,
    conv2dInPlace,
    conv_relu2dInPlace,
)
from msdtool.ops.layers.stitch import (
    StitchCopyFunction,
    StitchLazyFunction,
    StitchSlowFunction,
    stitchCopy,
    stitchLazy,
    stitchSlow,
)

__all__ = [
    "Conv2dInPlaceFunction",
    "Conv2dInPlaceModule",
    "ConvRelu2dInPlaceFunction",
    "ConvRelu2dInPlaceModule",
    "MSDBlock2d",
    "MSDBlock3d",
    "MSDFinalLayer",
    "MSDLayerModule",
    "MSDModule",
    "MSDModule2d",
    "ReLUInplaceFunction",
    "ReLUInplaceModule",
    "StitchBuffer",
    "StitchCopyFunction",
    "StitchCopyModule",
    "StitchLazyFunction",
    "StitchLazyModule",
    "StitchSlowFunction",
    "conv2dInPlace",
    "conv_relu2dInPlace",
    "init_convolution_weights",
    "msdblock2d",
    "scaling_module",
    "stitchCopy",
    "stitchLazy",
    "stitchSlow",
    "units_in_front",
]

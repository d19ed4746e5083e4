"""Layers for time series: they remember earlier frames, so a series can come in pieces.

Names and results are those of convis (its page "PyTorch Extensions in Convis") where it is
consistent; where it is not, splitting a series into pieces of any length never changes the result.

Shapes: a series is [B, C, T, X, Y] (batch, channels, time, two spatial axes); [T, X, Y] and [T]
are accepted for B = C = 1. If the frames are slices of a volume, T counts slices.

Networks on images larger than memory are computed by `msdtool.ops.out_of_core`.
"""

from msdtool.nn.streaming.convolution import Conv1d, Conv2d, Conv3d, MyMemoryConv
from msdtool.nn.streaming.filters import (
    LN,
    Delay,
    NLRectify,
    NLSquare,
    TemporalLowPassFilterRecursive,
    TimePadding,
)
from msdtool.nn.streaming.layer import Layer
from msdtool.nn.streaming.output import Output

__all__ = [
    "LN",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Delay",
    "Layer",
    "MyMemoryConv",
    "NLRectify",
    "NLSquare",
    "Output",
    "TemporalLowPassFilterRecursive",
    "TimePadding",
]

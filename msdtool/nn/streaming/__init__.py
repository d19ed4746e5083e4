"""Layers for time series: they remember what they saw, so a series can come in pieces.

Names and numbers are those of convis (its page "PyTorch Extensions in Convis"), where it
is consistent; where it is not, cutting a series into pieces of any length never changes the result.

Shapes: a series is [B, C, T, X, Y] (batch, channels, time, two spatial axes); [T, X, Y] and [T]
are taken for B = C = 1. With slices of a volume for frames, T counts slices.

Not to be confused with `msdtool.ops.streaming`, which computes an MSD block of a large image.
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

"""Convolutions over semifields: learnable dilations, erosions, closings, soft maxima, roots.

A semifield replaces the sum and the product of a convolution. A `GenericConv` combines a kernel
(`LearnedKernel2D`, a quadratic one, or any module that returns one) and a convolution made from a
semifield by its ``dynamic()`` or ``lazy_fixed()``, or torch's own (`TorchLinearConv2D`).
"""

from msdtool.nn.semifield.broadcast import BroadcastSemifield
from msdtool.nn.semifield.generic import GenericClosing, GenericConv
from msdtool.nn.semifield.kernels import (
    LearnedKernel2D,
    LearnedKernel3D,
    QuadraticKernelCholesky2D,
    QuadraticKernelIso2D,
    QuadraticKernelIso3D,
    QuadraticKernelSpectral2D,
)
from msdtool.nn.semifield.select import SelectSemifield
from msdtool.nn.semifield.subtract import SubtractSemifield
from msdtool.nn.semifield.torch_layers import TorchLinearConv2D, TorchMaxPool2D

__all__ = [
    "BroadcastSemifield",
    "GenericClosing",
    "GenericConv",
    "LearnedKernel2D",
    "LearnedKernel3D",
    "QuadraticKernelCholesky2D",
    "QuadraticKernelIso2D",
    "QuadraticKernelIso3D",
    "QuadraticKernelSpectral2D",
    "SelectSemifield",
    "SubtractSemifield",
    "TorchLinearConv2D",
    "TorchMaxPool2D",
]

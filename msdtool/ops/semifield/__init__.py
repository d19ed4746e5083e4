"""Convolutions over semifields: other sums and products in place of + and *."""

from msdtool.ops.semifield.conv import Convolution, broadcast_conv, select_conv, subtract_conv
from msdtool.ops.semifield.operations import (
    BroadcastOperations,
    SelectOperations,
    SubtractOperations,
    check_elementwise,
)

__all__ = [
    "BroadcastOperations",
    "Convolution",
    "SelectOperations",
    "SubtractOperations",
    "broadcast_conv",
    "check_elementwise",
    "select_conv",
    "subtract_conv",
]

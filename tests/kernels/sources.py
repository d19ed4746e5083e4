"""Every specialisation of every kernel: all of them are compiled for every architecture.

A family of kernels plugs in by adding the sources that its module in msdtool/ops can ask for.
"""

import torch

from msdtool.ops import convolution, cuda_engine
from msdtool.ops.kernels import Source, source_for

SOURCES: tuple[Source, ...] = (
    *convolution.SOURCES,
    *(source_for("convolution", torch.float32, NDIM=2, KERNEL_SIZE=size) for size in (1, 5)),
    *cuda_engine.SOURCES,
)

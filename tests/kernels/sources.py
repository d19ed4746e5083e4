"""Every specialisation of every kernel: all of them are compiled for every architecture.

A family of kernels plugs in by adding the sources that its module in msdtool/ops can ask for. What
depends on sizes and numbers without end, such as dilations, is here once or twice.
"""

from collections.abc import Iterator

import torch

from msdtool.nn.semifield import SelectSemifield, SubtractSemifield
from msdtool.ops import convolution, cuda_engine, fused
from msdtool.ops.semifield.geometry import plan_convolution
from msdtool.ops.semifield.gpu import semifield_source
from msdtool.ops.sources import Source, source_for


def semifield_sources() -> Iterator[Source]:
    """All semifields in 2D; of either kind one in 3D, with more terms than a byte counts."""
    select = SelectSemifield.tropical_max(), SelectSemifield.tropical_min_negated()
    subtract = SubtractSemifield.linear(), SubtractSemifield.root(3.0), SubtractSemifield.log(-2.0)
    plane = plan_convolution((1, 1, 64, 64), (1, 1, 3, 3))
    volume = plan_convolution((1, 16, 9, 9, 9), (1, 16, 3, 3, 3), stride=2, dilation=(1, 2, 3))
    for dtype in (torch.float32, torch.float64):
        for semifield in (*select, *subtract):
            yield semifield_source(semifield, plane, dtype)
        for semifield in (select[0], subtract[2]):
            yield semifield_source(semifield, volume, dtype)


SOURCES: tuple[Source, ...] = (
    *convolution.SOURCES,
    *(source_for("convolution", torch.float32, NDIM=2, KERNEL_SIZE=size) for size in (1, 5)),
    *cuda_engine.SOURCES,
    *fused.SOURCES,
    *semifield_sources(),
)

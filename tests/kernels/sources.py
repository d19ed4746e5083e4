"""Every specialisation of every kernel: all of them are compiled for every architecture.

A family of kernels plugs in by adding the sources that its module can ask for. Sources that depend
on arbitrary numbers, such as dilations, are here once or twice.
"""

from collections.abc import Iterator

import torch

from msdtool.bench import naive
from msdtool.nn.semifield import SelectSemifield, SubtractSemifield
from msdtool.ops.cuda import back, convolution, fragments, front, inner, taps
from msdtool.ops.cuda.sources import Source, source_for
from msdtool.ops.semifield.geometry import plan_convolution
from msdtool.ops.semifield.gpu import semifield_source


def semifield_sources() -> Iterator[Source]:
    """All semifields in 2D; one of either kind in 3D, with more terms than a byte can count."""
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
    *taps.SOURCES,
    *fragments.SOURCES,
    *front.SOURCES,
    *back.SOURCES,
    *inner.SOURCES,
    *semifield_sources(),
    naive.SOURCE,
)

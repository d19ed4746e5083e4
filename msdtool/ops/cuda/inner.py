"""The layers inside a block of layers by CUDA kernels (kernels/inner.cu), forward and backward.

Planes are [C, plane] of a `Layout`. Where the block's
sums over the channels in front of it come from: `msdtool.ops.cuda.product`.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda.launcher import Constants, constants, launch
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.cuda.sources import STORAGES, Source, source_for

# As in kernels/inner.cu; tests/kernels/test_constants.py compares them.
ROWS, WARPS, MAX_PAIRS = 4, 8, 16
BLOCK = (32 * WARPS,)
MAX_GRID_Z = 65535
PLANS = 32  # of shapes whose arguments are kept


def inner_source(dtype: torch.dtype, num_axes: int, *, tf32: bool = False) -> Source:
    """The source of the kernels; with tf32, channels are rounded to it."""
    return source_for("inner", dtype, NDIM=num_axes, TF32=int(tf32))


SOURCES = (
    *(inner_source(dtype, ndim) for dtype in STORAGES for ndim in (2, 3)),
    *(inner_source(torch.float32, ndim, tf32=True) for ndim in (2, 3)),
)


class InnerLayers:
    """Computes layers over the channels that their block wrote before them.

    Args:
        layout: of the planes.
        dtype: of the planes.
        tf32: whether channels are rounded to what a product of TF32 takes of them.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype, *, tf32: bool = False) -> None:
        shape = layout.shape
        self.source = inner_source(dtype, len(shape.space), tf32=tf32)
        *depth, self.height, self.width = shape.space
        self.plane = layout.plane
        self.num_slices = shape.batch * math.prod(depth)
        inside = self.height, self.width, layout.pitch, layout.halo
        self.sizes = (self.num_slices, *(depth or (1,)), *inside)
        self.rule = RULES[shape.padding]
        self._plans: dict[tuple[int, ...], tuple[tuple[int, int, int], Constants]] = {}

    def forward(
        self, sources: Tensor, weight: Tensor, sums: Tensor, output: Tensor, dilation: int
    ) -> None:
        """Write a layer's channels.

        Args:
            sources: the channels that the block wrote before it, [C_in, plane].
            weight: by which they are multiplied, [C_out, C_in, 3, 3(, 3)], contiguous in all axes
                but the first.
            sums: over the channels in front of the block, with bias, [C_out, plane].
            output: [C_out, plane], may be ``sums``.
            dilation: of the layer.
        """
        c_out, c_in = weight.shape[:2]
        grid, sizes = self._plan(dilation, self.plane, c_in, c_out)
        launch(
            self.source, "inner_forward", grid, BLOCK,
            sources, weight, weight.stride(0), sums, output, *sizes,
        )  # fmt: skip

    def backward(
        self, weight: Tensor, deltas: Tensor, grads: Tensor, outputs: Tensor, dilation: int
    ) -> None:
        """Add to the gradients of the channels that a layer read, and complete some of them.

        Args:
            weight: as for `forward`.
            deltas: gradients of the layer before its ReLU, [C_out, plane].
            grads: of the channels, [C_in, plane].
            outputs: the last of the channels, those whose gradient gets nothing more from other
                layers. It is set to that before their ReLU.
            dilation: of the layer.
        """
        c_out, c_in = weight.shape[:2]
        grid, sizes = self._plan(dilation, len(outputs), self.plane, c_in, c_out)
        launch(
            self.source, "inner_backward", grid, BLOCK,
            weight, weight.stride(0), deltas, grads, outputs, *sizes,
        )  # fmt: skip

    def complete(self, grads: Tensor, outputs: Tensor) -> None:
        """Set gradients of channels to those before their ReLU, both [C, plane]."""
        grid, sizes = self._plan(1, len(outputs), self.plane, len(outputs), 0)
        launch(
            self.source, "inner_backward", grid, BLOCK, None, 0, None, grads, outputs, *sizes
        )  # fmt: skip

    def _plan(self, dilation: int, *counts: int) -> tuple[tuple[int, int, int], Constants]:
        """Grid and last arguments of a launch: columns, rows (a thread has ROWS, a dilation apart)
        and slices; counts, sizes, dilation and rule."""
        key = dilation, *counts
        if key not in self._plans:
            threads = -(-self.height // (ROWS * dilation)) * dilation
            self._plans[key] = (
                (-(-self.width // 32), -(-threads // WARPS), min(self.num_slices, MAX_GRID_Z)),
                constants(*counts, *self.sizes, dilation, self.rule),
            )
        return self._plans[key]


@lru_cache(maxsize=PLANS)
def inner_layers_of(layout: Layout, dtype: torch.dtype, *, tf32: bool) -> InnerLayers:
    """The `InnerLayers` of a shape, kept with the arguments of its launches."""
    return InnerLayers(layout, dtype, tf32=tf32)

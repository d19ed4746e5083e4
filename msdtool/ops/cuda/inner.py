"""The layers inside a block of layers by CUDA kernels (kernels/inner.cu), forward and backward.

Planes are [C, B * pixels], contiguous, of a batch of images one after another. Where the block's
sums over the channels in front of it come from: `msdtool.ops.cuda.product`.
"""

import math

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda.launcher import launch
from msdtool.ops.cuda.sources import STORAGES, Source, source_for
from msdtool.ops.engine import BlockShape

# As in kernels/inner.cu.
ROWS, WARPS, MAX_PAIRS = 4, 8, 16
MAX_GRID_Z = 65535

SOURCES = tuple(source_for("inner", dtype, NDIM=ndim) for dtype in STORAGES for ndim in (2, 3))


class InnerLayers:
    """Computes layers over the channels that their block wrote before them.

    Args:
        shape: sizes of the network and the batch.
        dtype: of the planes.
    """

    def __init__(self, shape: BlockShape, dtype: torch.dtype) -> None:
        self.source: Source = source_for("inner", dtype, NDIM=len(shape.space))
        *depth, self.height, self.width = shape.space
        slices = shape.batch * math.prod(depth)
        self.sizes = (slices, *(depth or (1,)), self.height, self.width)
        self.num_slices = slices
        self.rule = RULES[shape.padding]

    def forward(
        self, sources: Tensor, weight: Tensor, sums: Tensor, output: Tensor, dilation: int
    ) -> None:
        """Write a layer's channels.

        Args:
            sources: the channels that the block wrote before it, [C_in, B * pixels].
            weight: by which they are multiplied, [C_out, C_in, 3, 3(, 3)], contiguous in all axes
                but the first.
            sums: over the channels in front of the block, with bias, [C_out, B * pixels].
            output: [C_out, B * pixels], may be ``sums``.
            dilation: of the layer.
        """
        c_out, c_in = weight.shape[:2]
        launch(
            self.source,
            "inner_forward",
            self._grid(dilation),
            (32 * WARPS,),
            sources,
            weight,
            weight.stride(0),
            sums,
            output,
            output.shape[1],
            c_in,
            c_out,
            *self.sizes,
            dilation,
            self.rule,
        )

    def backward(
        self, weight: Tensor, deltas: Tensor, grads: Tensor, outputs: Tensor, dilation: int
    ) -> None:
        """Add to the gradients of the channels that a layer read, and complete some of them.

        Args:
            weight: as for `forward`.
            deltas: gradients of the layer before its ReLU, [C_out, B * pixels].
            grads: of the channels, [C_in, B * pixels].
            outputs: the last of the channels, those whose gradient gets nothing more from other
                layers. It is set to that before their ReLU.
            dilation: of the layer.
        """
        self._backward(weight, deltas, grads, outputs, dilation)

    def complete(self, grads: Tensor, outputs: Tensor) -> None:
        """Set gradients of channels to those before their ReLU, both [C, B * pixels]."""
        self._backward(None, None, grads, outputs, 1)

    def _backward(
        self,
        weight: Tensor | None,
        deltas: Tensor | None,
        grads: Tensor,
        outputs: Tensor,
        dilation: int,
    ) -> None:
        launch(
            self.source,
            "inner_backward",
            self._grid(dilation),
            (32 * WARPS,),
            weight,
            0 if weight is None else weight.stride(0),
            deltas,
            grads,
            outputs,
            len(outputs),
            grads.shape[1],
            len(grads),
            0 if weight is None else len(weight),
            *self.sizes,
            dilation,
            self.rule,
        )

    def _grid(self, dilation: int) -> tuple[int, int, int]:
        """Columns, rows and slices; a thread has ROWS rows, a dilation apart."""
        threads = -(-self.height // (ROWS * dilation)) * dilation
        return -(-self.width // 32), -(-threads // WARPS), min(self.num_slices, MAX_GRID_Z)

"""The stack of taps by CUDA kernels (kernels/taps.cu): summed up, and made from gradients.

A stack [k * width * 3^n, pixels] holds, for each output of a block of k layers and each tap, what
the pixels of a strip of slices contribute through it; see `msdtool.ops.cuda.product`.
"""

from functools import cache, lru_cache

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda.launcher import Constants, constants, launch
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.cuda.sources import source_for

ROWS, WARPS = 4, 8  # as in kernels/taps.cu; tests/kernels/test_constants.py
BLOCK = (32 * WARPS,)
PLANS = 32  # of shapes whose arguments are kept

SOURCES = tuple(
    source_for("taps", dtype, NDIM=ndim)
    for dtype in (torch.float32, torch.float64)
    for ndim in (2, 3)
)


class Taps:
    """Sums up and makes the taps of a network's blocks, strip by strip.

    Args:
        layout: of planes and of stacks.
        dtype: of taps, sums and gradients.
        device: of the tensors.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape = layout.shape
        self.source = source_for("taps", dtype, NDIM=len(shape.space))
        self.num_slices = layout.num_slices
        depth, *rest = shape.space
        self.sizes = (depth, *(1,) * (2 - len(rest)), *rest)
        self.sizes += layout.pitch, layout.halo, RULES[shape.padding]
        # As the kernels read them: one for each channel that a layer writes.
        per_channel = tuple(step for step in shape.dilations for _ in range(shape.width))
        self.dilations = _on_device(per_channel, device)
        self._blocks: dict[range, Tensor] = {}
        self._gather: dict[tuple[range, int, int], tuple[tuple[int, int, int], Constants]] = {}
        self._spread: dict[tuple[range, int, int], tuple[tuple[int, int, int], Constants]] = {}

    def gather(
        self, taps: Tensor, bias: Tensor, block: range, sums: Tensor, first: int, stop: int
    ) -> None:
        """Add the taps of a strip to the sums [k * width, plane] of a block.

        Strips come in order. The first to reach a pixel starts from the bias [k * width].

        Args:
            taps: of the slices first to stop - 1, counted over all images.
            bias: [k * width].
            block: layers.
            sums: of their channels.
            first, stop: slices of the strip.
        """
        key = block, first, stop
        if key not in self._gather:
            margin = max(self.shape.dilations[layer] for layer in block)
            slices = min(stop + margin, self.num_slices) - max(first - margin, 0)
            arguments = first, stop, margin, self.shape.batch, *self.sizes
            self._gather[key] = self._grid(slices, len(sums)), constants(*arguments)
        grid, sizes = self._gather[key]
        launch(
            self.source, "taps_gather", grid, BLOCK,
            taps, taps.stride(0), bias, self.dilations_of(block), sums, sums.stride(0), *sizes,
        )  # fmt: skip

    def spread(self, deltas: Tensor, block: range, taps: Tensor, first: int, stop: int) -> None:
        """Write the taps of a strip from gradients before the ReLU, [k * width, plane]."""
        key = block, first, stop
        if key not in self._spread:
            arguments = first, stop, *self.sizes
            self._spread[key] = self._grid(stop - first, len(deltas)), constants(*arguments)
        grid, sizes = self._spread[key]
        launch(
            self.source, "taps_spread", grid, BLOCK,
            deltas, deltas.stride(0), self.dilations_of(block), taps, taps.stride(0), *sizes,
        )  # fmt: skip

    def dilations_of(self, block: range) -> Tensor:
        """Of each output of a block of layers, int64."""
        if block not in self._blocks:
            self._blocks[block] = self.dilations[self.shape.outputs(block)]
        return self._blocks[block]

    def _grid(self, slices: int, channels: int) -> tuple[int, int, int]:
        """Columns, rows (in 2D they are the slices, of which a thread has some) and channels."""
        *rows, width = self.shape.space[1:]
        row_blocks = -(-rows[0] // WARPS) if rows else -(-slices // (ROWS * WARPS))
        return -(-width // 32), row_blocks, channels


@lru_cache(maxsize=PLANS)
def taps_of(layout: Layout, dtype: torch.dtype, device: torch.device) -> Taps:
    """The `Taps` of a shape, kept with the arguments of its launches."""
    return Taps(layout, dtype, device)


@cache
def _on_device(dilations: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept for good: a CUDA graph cannot capture the copy, and refers to its result by address."""
    return torch.tensor(dilations, dtype=torch.int64, device=device)

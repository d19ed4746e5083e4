"""What a block of layers leaves for the channels in front of it, backward, on tensor cores.

kernels/back.cu adds to the gradients of these channels and makes those of the weights, from the
gradients of the block's channels before their ReLU. Gradients are float32; products have the terms
that they have forward (`msdtool.ops.cuda.front`), in TF32 for 16-bit channels, too: those and their
weights have a place in it. No sum depends on the order in which threads run.
"""

import math
from collections.abc import Collection, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda.fragments import (
    THREADS,
    WIDTH,
    Layers,
    Places,
    gradient_places,
    input_places,
    pack,
    pack_source,
)
from msdtool.ops.cuda.launcher import Constants, constants, launch
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.cuda.sources import Source, source_for

BLOCKS_WANTED = 264  # two for each multiprocessor of an H100
# Of the sums for weights: where layers are many and wide, fewer blocks of threads run.
PARTS_BYTES = 256 * 2**20
CHANNELS = 256  # that a block of threads multiplies
PLANS = 32  # of shapes whose arguments are kept
STORAGES = (torch.float32, torch.float16, torch.bfloat16)


def back_source(dtype: torch.dtype, terms: int) -> Source:
    """The source of the kernels that add so many products for each."""
    return source_for("back", dtype, TERMS=terms)


UNPACKING = pack_source(torch.float32, torch.float32, 1)
SOURCES = (*(back_source(dtype, 1) for dtype in STORAGES), back_source(torch.float32, 3))


class Back:
    """Gradients by the blocks of layers of a network.

    Args:
        layout: of planes and gradients.
        blocks: of layers.
        dtype: of the planes.
        terms: of a product.
        device: of the tensors.
    """

    def __init__(
        self,
        layout: Layout,
        blocks: tuple[range, ...],
        dtype: torch.dtype,
        terms: int,
        device: torch.device,
    ) -> None:
        self.shape = shape = layout.shape
        self.blocks, self.terms, self.device = blocks, terms, device
        self.source = back_source(dtype, terms)
        self.layers = Layers(shape.c_in, shape.width, blocks, shape.num_taps // 9)
        self.gradients = gradient_places(self.layers, device)
        *volume, height, width = shape.space
        depth = math.prod(volume)
        num_rows = shape.batch * depth * height
        units = num_rows * -(-width // WIDTH)
        most_parts = max(1, PARTS_BYTES // (4 * len(self.gradients.places)))

        def run(blocks: int) -> tuple[int, Constants]:
            """Blocks of threads, and the last arguments of a kernel, for at most so many."""
            share = max(1, -(-units // blocks))
            return -(-units // share), constants(
                layout.plane, layout.pitch, layout.halo, depth, height, width, num_rows, units,
                share, RULES[shape.padding],
            )  # fmt: skip

        self.input_run = run(BLOCKS_WANTED)
        self.num_parts, self.weight_sizes = run(min(BLOCKS_WANTED, most_parts))

    def pack(self, weights: Sequence[Tensor], lowest: int) -> Tensor:
        """The weights of all layers, by the channels from ``lowest``, for `add_to_input`."""
        return pack(weights, self._places(lowest), torch.float32, self.terms)

    def _places(self, lowest: int) -> Places:
        return input_places(self.layers, lowest, self.terms, self.device)

    def add_to_input(
        self, deltas: Tensor, dilations: Tensor, block: range, packed: Tensor, grads: Tensor
    ) -> None:
        """Add to the gradients of channels in front of a block.

        Args:
            deltas: gradients of the block's channels before their ReLU, [k * width, plane].
            dilations: of each of them.
            block: layers.
            packed: as from `pack`.
            grads: of the channels from ``lowest``, [C, plane].
        """
        if len(grads) == 0:
            return
        lowest = self.shape.channels_before(block.start) - len(grads)
        start = self._places(lowest).starts[block, 0]
        num_blocks, sizes = self.input_run
        launch(
            self.source, "back_input", (num_blocks,), (THREADS,),
            deltas, dilations, len(deltas), packed[start:],
            self.layers.num_planes, grads, len(grads), *sizes,
        )  # fmt: skip

    def new_parts(self, wanted: Collection[int]) -> Tensor:
        """Where `add_to_weights` writes sums of parts of the pixels, for the blocks of some layers;
        zeros for other blocks."""
        places, starts = self.gradients.places, self.gradients.starts
        parts = torch.empty(self.num_parts, len(places), device=self.device)
        stops = [*list(starts.values())[1:], len(places)]
        for ((block, _), start), stop in zip(starts.items(), stops, strict=True):
            if not set(block) & set(wanted):
                parts[:, start:stop] = 0
        return parts

    def add_to_weights(
        self, planes: Tensor, deltas: Tensor, dilations: Tensor, block: range, parts: Tensor
    ) -> None:
        """Write a block's sums; ``planes`` are the channels, [C, plane], the others as above."""
        channels = self.shape.channels_before(block[-1])
        grid = self.num_parts, -(-channels // CHANNELS), self.layers.num_planes
        launch(
            self.source, "back_weight", grid, (THREADS,),
            planes, deltas, dilations, len(deltas), parts[:, self.gradients.starts[block, 0] :],
            parts.stride(0), channels, *self.weight_sizes,
        )  # fmt: skip

    def unpack(self, parts: Tensor, gradients: Tensor) -> None:
        """Add the sums of all blocks to the gradients of all weights, layer by layer."""
        places = self.gradients.places
        launch(
            UNPACKING, "unpack", (-(-len(places) // THREADS),), (THREADS,),
            parts, parts.stride(0), len(parts), places, gradients,
        )  # fmt: skip


@lru_cache(maxsize=PLANS)
def back_of(
    layout: Layout,
    blocks: tuple[range, ...],
    dtype: torch.dtype,
    terms: int,
    device: torch.device,
) -> Back:
    """The `Back` of a shape, kept with the arguments of its launches."""
    return Back(layout, blocks, dtype, terms, device)

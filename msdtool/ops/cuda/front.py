"""The MSD block on tensor cores: the channels in front of a block of layers by one kernel.

kernels/front.cu replaces a block's product and the gathering of its taps, and kernels/back.cu
(`msdtool.ops.cuda.back`) its transposes; all else is as in
`msdtool.ops.cuda.product`. Where the kernels cannot be used (float64, layers wider than 8, an older
GPU, dilations whose sums need more shared memory than there is), the product is.

Precision. float32 is taken as the sum of two numbers of TF32, three products for each, which is as
right as float32 to some 1e-6. Where the user allows TF32 with
`torch.set_float32_matmul_precision`, channels are rounded to it, once, when they are written, and
one product is enough. 16-bit types are multiplied as they are. All sums are float32.
"""

import logging
import math
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda.back import back_of
from msdtool.ops.cuda.fragments import (
    OUTPUTS,
    THREADS,
    WIDTH,
    Layers,
    Places,
    front_places,
    pack,
)
from msdtool.ops.cuda.launcher import Constants, constants, launch, max_shared_bytes
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.cuda.product import ProductEngine, blocks_of
from msdtool.ops.cuda.sources import Source, source_for
from msdtool.ops.engine import BlockShape, Gradients

# As in kernels/front.cu; tests/kernels/test_constants.py compares them.
ROWS = 2
TAP_ROWS, PITCH = 48, WIDTH + 4
TAPS_BYTES = 4 * ROWS * TAP_ROWS * PITCH
OUTPUTS_BYTES = 72 * OUTPUTS

STORAGES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST_CAPABILITY = (8, 0)
FEWEST_COLUMNS = 32  # of a strip; with fewer, more than three quarters would be computed twice
BLOCKS_WANTED = 264  # two for each multiprocessor of an H100
FEWEST_ROWS = 4  # of a band, which reads 2 * max_dilation rows more

PLANS = 32  # of shapes whose arguments are kept

# Plane of taps, grid, last arguments and shared memory.
Launch = tuple[int, tuple[int, int], Constants, int]

log = logging.getLogger(__name__)


def front_source(dtype: torch.dtype, terms: int) -> Source:
    """The source of the kernels that add so many products for each."""
    return source_for("front", dtype, TERMS=terms)


SOURCES = (
    *(front_source(dtype, 1) for dtype in STORAGES),
    front_source(torch.float32, 3),
)


class FrontEngine(ProductEngine):
    """A `ProductEngine` whose products are kernels of ours, where these can be used."""

    def __init__(self, shape: BlockShape, like: Tensor) -> None:
        side = side_of(shape)
        layers = OUTPUTS // shape.width
        self.columns = None
        if _serves(shape, like):
            self.columns = columns_for(shape, layers, max_shared_bytes(like.device))
        exact = torch.get_float32_matmul_precision() == "highest"
        self.terms = 3 if like.dtype == torch.float32 and exact else 1
        tf32 = self.columns is not None and like.dtype == torch.float32 and not exact
        super().__init__(shape, like, halo=side if self.columns else 0, tf32=tf32)
        self.source = front_source(like.dtype, self.terms) if self.columns else None
        if self.columns:
            self.layers = min(layers, shape.depth)

    def blocks(self) -> list[range]:
        """Layers that are computed together, after the first block behind a multiple of 8 channels
        if that can be: the kernel multiplies as many at a time."""
        counts = range(1, self.layers + 1)
        whole = [n for n in counts if self.shape.channels_before(n) % 8 == 0]
        first = whole[0] if whole and self.columns else self.layers
        return blocks_of(self.shape.depth, min(first, self.shape.depth), self.layers)

    @property
    def workspace_bytes(self) -> int:
        if self.source is None:
            return super().workspace_bytes
        return len(self._places.places) * self.element_size

    def new_workspace(self, planes: Tensor, weights: Sequence[Tensor]) -> Tensor:
        if self.source is None:
            return super().new_workspace(planes, weights)
        return pack(weights, self._places, self.dtype, self.terms)

    def convolve_front(
        self,
        planes: Tensor,
        weights: Sequence[Tensor],
        bias: Tensor,
        sums: Tensor,
        block: range,
        workspace: Tensor,
    ) -> None:
        if self.source is None:
            super().convolve_front(planes, weights, bias, sums, block, workspace)
            return
        starts, dilations = self._places.starts, self.taps.dilations_of(block)
        for plane, grid, sizes, shared_bytes in self._launches[block]:
            launch(
                self.source, "front_forward", grid, (THREADS,),
                planes, planes.stride(0), self.layout.pitch, workspace[starts[block, plane] :],
                bias, dilations, sums, sums.stride(0), *sizes, shared_bytes=shared_bytes,
            )  # fmt: skip

    def backward_layers(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: Gradients
    ) -> None:
        if self.source is None:
            super().backward_layers(planes, grads, weights, gradients)
            return
        shape, blocks = self.shape, tuple(self.blocks())
        back = back_of(self.layout, blocks, self.dtype, self.terms, self.device)
        lowest = 0 if gradients.input is not None else shape.c_in
        weights = [weight.contiguous() for weight in weights]
        packed = back.pack(weights, lowest)
        wanted = [layer for layer, grad in enumerate(gradients.weights) if grad is not None]
        parts = back.new_parts(wanted) if wanted else None
        for block in reversed(blocks):
            deltas, dilations = grads[shape.channels(block)], self.taps.dilations_of(block)
            self.backward_inside(planes, grads, weights, block)
            if parts is not None and set(block) & set(wanted):
                back.add_to_weights(planes, deltas, dilations, block, parts)
            sources = grads[lowest : shape.channels_before(block.start)]
            back.add_to_input(deltas, dilations, block, packed, sources)
        if parts is not None and gradients.flat_weights is not None:
            back.unpack(parts, gradients.flat_weights)
        if gradients.bias is not None:
            gradients.bias += grads[shape.c_in :].sum(1)

    @cached_property
    def _places(self) -> Places:
        shape, step = self.shape, 32 // self.element_size
        layers = Layers(shape.c_in, shape.width, tuple(self.blocks()), shape.num_taps // 9)
        return front_places(layers, step, self.terms, self.device)

    @cached_property
    def _launches(self) -> dict[range, list[Launch]]:
        assert self.columns is not None
        return launches_of(self.layout, tuple(self.blocks()), self.columns, BLOCKS_WANTED)


@lru_cache(maxsize=PLANS)
def launches_of(
    layout: Layout, blocks: Sequence[range], columns: int, blocks_wanted: int
) -> dict[range, list[Launch]]:
    """The launches for each block of layers, kept for the next step: one, or one for each plane of
    taps of which the middle one writes sums to which the others add."""
    shape = layout.shape
    found: dict[range, list[Launch]] = {}
    *volume, height, width = shape.space
    depth, columns = math.prod(volume), even_columns(width, columns)
    strips = -(-width // columns)
    band = band_rows(height, strips * shape.batch * depth, blocks_wanted)
    for block in blocks:
        reach = max(shape.dilations[layer] for layer in block)
        shared_bytes = TAPS_BYTES + 4 * columns * ring_rows(shape, block)
        found[block] = []
        for tap in (0, -1, 1) if volume else (0,):
            slices = shape.batch * (depth + reach * abs(tap))
            sizes = constants(
                shape.channels_before(block.start), shape.width * len(block), layout.halo, reach,
                columns, band, strips, tap, depth, height, width, RULES[shape.padding],
            )  # fmt: skip
            plane = tap + 1 if volume else 0
            found[block].append((plane, (strips * slices, -(-height // band)), sizes, shared_bytes))
    return found


def even_columns(width: int, most: int) -> int:
    """The columns of a strip, a multiple of 8, where as few strips as can be share a width."""
    return -(-width // (-(-width // most) * 8)) * 8


def side_of(shape: BlockShape) -> int:
    """Columns of the halo: the largest dilation, as a multiple of 4."""
    return -(-max(shape.dilations) // 4) * 4


def ring_rows(shape: BlockShape, layers: range) -> int:
    """Rows of the rings of some layers, in which a block of threads adds taps up."""
    return shape.width * sum(2 * shape.dilations[layer] + ROWS for layer in layers)


def band_rows(height: int, num_strips: int, blocks_wanted: int = BLOCKS_WANTED) -> int:
    """Rows of a band: as many bands as a GPU computes at once, but not of fewer than FEWEST_ROWS.

    Rows above and below a band cost a third of a product, and of small images most
    multiprocessors would idle otherwise.
    """
    bands = min(blocks_wanted // max(1, num_strips), height // FEWEST_ROWS)
    return -(-height // max(1, bands))


@lru_cache(maxsize=PLANS)
def columns_for(shape: BlockShape, layers: int, available: int) -> int | None:
    """The columns of a strip, a multiple of 8, for which a block has the shared memory.

    Returns:
        None, after a warning, if they would be too few.
    """
    # Whichever layers come together.
    windows = [range(i, min(i + layers, shape.depth)) for i in range(shape.depth)]
    rows = max(ring_rows(shape, window) for window in windows)
    left = available - TAPS_BYTES - OUTPUTS_BYTES
    columns = min(WIDTH - 2 * side_of(shape), left // (4 * rows)) // 8 * 8
    if columns >= FEWEST_COLUMNS:
        return columns
    _warn(max(shape.dilations), available)
    return None


@cache
def _warn(max_dilation: int, available: int) -> None:
    """Tell once why a network is computed without the kernel."""
    log.warning(
        f"networks of dilation {max_dilation} are computed by products instead of the kernel for "
        f"tensor cores, which adds up the taps of at least {FEWEST_COLUMNS} of {WIDTH} columns in "
        f"shared memory; this GPU has {available} bytes of it for a block of threads"
    )


def _serves(shape: BlockShape, like: Tensor) -> bool:
    fits = shape.width <= OUTPUTS and like.dtype in STORAGES
    if like.device.type != "cuda":
        return fits
    return fits and torch.cuda.get_device_capability(like.device) >= OLDEST_CAPABILITY

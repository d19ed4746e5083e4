"""The forward pass of an MSD block on tensor cores, without a stack of taps in memory.

kernels/fused.cu replaces a block's product and its gather; all else is as in
`msdtool.ops.cuda.product`. float32 is multiplied as TF32. Where the kernel cannot be used (3D,
float64, blocks too wide, an older GPU), the product and the gather are: in 3D, the taps of a tile
and its window of 2 * max_dilation + 1 slices need more shared memory than there is. Backward, two
products read the same stack, which is therefore computed once and kept for both.

A block of threads computes COLUMNS columns: as many of `COLUMNS` as its shared memory holds. Data
centre GPUs have 163 KB and more, compute capabilities 8.6, 8.9 and 12.0 have 99 KB, too little for
64 columns at dilation 10.
"""

import logging
from functools import cache

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda.launcher import launch, max_shared_bytes
from msdtool.ops.cuda.product import ProductEngine
from msdtool.ops.cuda.sources import Source, source_for
from msdtool.ops.engine import BlockShape

# As in kernels/fused.cu.
OUTPUTS, ROWS, THREADS = 8, 2, 256
COLUMNS = (64, 32)
ROW_TILES = -(-9 * OUTPUTS // 16)
COLUMN_STEP = 16

STORAGES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST_CAPABILITY = (8, 0)
# Two for each multiprocessor of an H100; a band reads 2 * max_dilation rows more than it computes.
BLOCKS_WANTED = 264

log = logging.getLogger(__name__)


def fused_source(dtype: torch.dtype, columns: int) -> Source:
    """The source of the kernel whose blocks compute some columns each."""
    return source_for("fused", dtype, OUTPUTS=OUTPUTS, COLUMNS=columns)


SOURCES = tuple(fused_source(dtype, columns) for dtype in STORAGES for columns in COLUMNS)


class FusedEngine(ProductEngine):
    """A `ProductEngine` whose forward products and gathers are one kernel, where it can be used."""

    def __init__(self, shape: BlockShape, like: Tensor) -> None:
        super().__init__(shape, like)
        self.serves = _serves(shape, like)

    def convolve_front(
        self, planes: Tensor, rows: Tensor, bias: Tensor, sums: Tensor, block: range, stack: Tensor
    ) -> None:
        shape = self.shape
        max_dilation = max(shape.dilations[layer] for layer in block)
        columns = columns_for(max_dilation, planes.device) if self.serves else None
        if columns is None:
            super().convolve_front(planes, rows, bias, sums, block, stack)
            return
        height, width = shape.space
        strips = -(-width // columns)
        band = band_rows(height, strips * shape.batch, max_dilation)
        launch(
            fused_source(planes.dtype, columns),
            "fused_forward",
            (strips, -(-height // band), shape.batch),
            (THREADS,),
            planes,
            planes.stride(0),
            packed(rows),
            bias,
            self.taps.dilations[shape.outputs(block)],
            sums,
            rows.shape[1],
            len(sums),
            max_dilation,
            band,
            height,
            width,
            RULES[shape.padding],
            shared_bytes=shared_bytes_for(max_dilation, columns),
        )


def band_rows(height: int, num_strips: int, max_dilation: int) -> int:
    """Rows of a band: enough bands to fill a GPU, unless they would read mostly border."""
    bands = min(-(-BLOCKS_WANTED // num_strips), max(1, height // (4 * max_dilation)))
    return -(-height // bands)


def columns_for(max_dilation: int, device: torch.device) -> int | None:
    """The most columns for which a block has the shared memory; None and a warning: it has none."""
    available = max_shared_bytes(device)
    for columns in COLUMNS:
        if shared_bytes_for(max_dilation, columns) <= available:
            return columns
    _warn(max_dilation, shared_bytes_for(max_dilation, COLUMNS[-1]), available)
    return None


@cache
def _warn(max_dilation: int, needed: int, available: int) -> None:
    """Tell once why blocks of layers are computed without the kernel."""
    log.warning(
        f"layers of dilation {max_dilation} are computed by products instead of the fused kernel: "
        f"it takes {needed} bytes of shared memory, this GPU has {available} for a block of threads"
    )


def shared_bytes_for(max_dilation: int, columns: int) -> int:
    """Shared memory of a block: the taps of some rows, and the window of target rows."""
    width = -(-(columns + 2 * max_dilation) // COLUMN_STEP) * COLUMN_STEP
    window = (2 * max_dilation + 1) * OUTPUTS * columns
    return 4 * (ROWS * ROW_TILES * 16 * width + window)


def packed(rows: Tensor) -> Tensor:
    """Weights [9 * outputs, m] in the order in which lanes load them, see kernels/mma.cuh.

    Returns:
        [m / K, row tiles, 32 lanes, 16 bytes], zeros where the matrix has no element; K is 8 for
        float32, whose values are rounded to TF32, and 16 for 16-bit types.
    """
    pair = 4 // rows.element_size()
    step = 8 * pair
    num_steps = -(-rows.shape[1] // step)
    whole = rows.new_zeros(16 * ROW_TILES, step * num_steps)
    whole[: len(rows), : rows.shape[1]] = rows
    if rows.dtype == torch.float32:
        whole = rounded_to_tf32(whole)
    # [tiles, half of the rows, row, steps, half of the columns, column, pair]
    parts = whole.view(ROW_TILES, 2, 8, num_steps, 2, 4, pair)
    return parts.permute(3, 0, 2, 5, 4, 1, 6).contiguous()


def rounded_to_tf32(values: Tensor) -> Tensor:
    """float32 values as the nearest TF32, ties away from zero; infinities and NaN stay such."""
    rounded = ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    # A NaN may have any bits: those of a GPU, 0x7FFFFFFF, would be rounded up to -0.
    return rounded.masked_fill(values.isnan(), torch.nan)


def _serves(shape: BlockShape, like: Tensor) -> bool:
    fits = len(shape.space) == 2 and shape.width <= OUTPUTS and like.dtype in STORAGES
    if like.device.type != "cuda":
        return fits
    return fits and torch.cuda.get_device_capability(like.device) >= OLDEST_CAPABILITY

"""The MSD block on a GPU: matrix products by cuBLAS, the rest by our kernels.

The algorithm is that of `msdtool.ops.cpu.blocked`: for k layers together, over the channels before
all of them, one product and a shift-and-add of its taps (kernels/taps.cu); the few channels inside
the block of layers follow layer by layer (kernels/inner.cu). Backward, gradients of a block's
channels become those before their ReLU, in place, layer by layer; a stack of their taps then
serves both products. In contrast to the CPU engine, gradients have nothing but zeros in a halo: the
kernels find a pixel beyond the border by its index. And the images of a batch lie one after another
in each plane, so that one product serves them all.

Precision. Products are in full float32 unless the user allows TF32 with
`torch.set_float32_matmul_precision`. float16 and bfloat16 tensors keep their channels in that
type; taps, sums, and gradients until they are returned, are float32, so that a channel is rounded
once and does not depend on where strips begin. Two runs produce the same bits.

Terms as in `msdtool.ops.cuda.per_layer`.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache, cached_property

import torch
from torch import Tensor

from msdtool.ops.cuda.convolution import compute_dtype
from msdtool.ops.cuda.inner import inner_layers_of
from msdtool.ops.cuda.per_layer import STRIP_BYTES, PerLayerEngine
from msdtool.ops.cuda.taps import taps_of
from msdtool.ops.engine import BlockShape, Gradients, Parameters, channels_before

# Channels of a block: more read the preceding channels less often, but compute more channels inside
# the block one by one. Chosen by count, not measured: at depth 100, width 1 in 2D, 8 read 650
# planes and leave 32 loads per pixel and layer.
BLOCK_CHANNELS = {2: 8, 3: 4}
# Where the taps of one slice of a block exceed this, the block has fewer layers.
MAX_STRIP_BYTES = 256 * 2**20
MAX_OFFSET = 2**32 - 1  # bytes of an image in 2D, of a slice in 3D, which the kernels count
# Whether 16-bit matrices can be multiplied into a float32 one, torch 2.8 and newer.
MIXED_PRODUCTS = hasattr(torch.ops.aten.mm, "dtype_out")


class ProductEngine(PerLayerEngine):
    """Computes an MSD block as matrix products, k layers at a time, strip by strip."""

    def __init__(
        self, shape: BlockShape, like: Tensor, *, halo: int = 0, tf32: bool = False
    ) -> None:
        super().__init__(shape, like, halo=halo)
        self.device = like.device
        self.dtype = like.dtype
        self.real = compute_dtype(like.dtype)
        self.taps = taps_of(self.layout, self.real, like.device)
        self.inner = inner_layers_of(self.layout, like.dtype, tf32=tf32)
        self.num_slices = self.layout.num_slices
        if len(shape.space) == 2:
            row_bytes = self.layout.slice_size * self.real.itemsize
            self.max_slices = min(self.max_slices, MAX_OFFSET // row_bytes)
        slice_bytes = self.layout.slice_size * shape.num_taps * shape.width * self.real.itemsize
        layers = min(
            BLOCK_CHANNELS[len(shape.space)] // shape.width, MAX_STRIP_BYTES // slice_bytes
        )
        self.layers = max(1, min(layers, shape.depth))
        # As many strips as they have to be, of the same size.
        strips = -(-self.num_slices // max(1, STRIP_BYTES // (slice_bytes * self.layers)))
        self.strip_slices = max(1, -(-self.num_slices // max(1, strips)))

    @property
    def slice_bytes(self) -> int:
        sums = 0 if self.real == self.dtype else self.layers * self.shape.width * self.real.itemsize
        return super().slice_bytes + sums * self.layout.slice_size

    @property
    def workspace_bytes(self) -> int:
        rows = self.layers * self.shape.width * self.shape.num_taps
        return rows * self.strip_slices * self.layout.slice_size * self.real.itemsize

    def forward(self, planes: Tensor, parameters: Parameters) -> None:
        self._check_size()
        shape, bias = self.shape, parameters.bias.to(self.real)
        weights = [weight.contiguous() for weight in parameters.weights]
        self.layout.fill_halo(planes)
        workspace, scratch = self.new_workspace(planes, weights), self._new_sums(planes)
        for block in self.blocks():
            m, channels = shape.channels_before(block.start), shape.channels(block)
            sums = planes[channels] if scratch is None else scratch[: len(block) * shape.width]
            self.convolve_front(planes, weights, bias[shape.outputs(block)], sums, block, workspace)
            for index, layer in enumerate(block):
                own = shape.channels(range(layer, layer + 1))
                self.inner.forward(
                    planes[m : own.start],
                    weights[layer][:, m:],
                    sums[index * shape.width : (index + 1) * shape.width],
                    planes[own],
                    shape.dilations[layer],
                )

    def _check_size(self) -> None:
        pixels = self.shape.space[-2] * self.layout.pitch
        if pixels * self.real.itemsize > MAX_OFFSET:
            raise ValueError(
                f"images of {pixels} pixels in a plane; the CUDA kernels count to "
                f"{MAX_OFFSET // self.real.itemsize}; cut them, or choose another impl"
            )

    def new_workspace(self, planes: Tensor, weights: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """What `convolve_front` needs beside its arguments, for all blocks."""
        return self._new_stack(planes)

    def convolve_front(
        self,
        planes: Tensor,
        weights: Sequence[Tensor],
        bias: Tensor,
        sums: Tensor,
        block: range,
        workspace: Tensor,
    ) -> None:
        """Write a block's convolutions of the channels before it, with bias.

        Args:
            planes: the channels, in storage type.
            weights: of all layers.
            bias: [k * width], in the type used for computing.
            sums: [k * width, plane], in the same type.
            block: layers.
            workspace: as `new_workspace` made it.
        """
        size, m = self.layout.slice_size, self.shape.channels_before(block.start)
        rows = _tap_columns([weights[layer][:, :m] for layer in block]).t()
        for first, stop in self.strips():
            taps = workspace[: len(rows), : (stop - first) * size]
            multiply(rows, planes[:m, first * size : stop * size], taps)
            self.taps.gather(taps, bias, block, sums, first, stop)

    def backward_layers(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: Gradients
    ) -> None:
        shape = self.shape
        lowest = 0 if gradients.input is not None else shape.c_in
        weights = [weight.contiguous() for weight in weights]
        stack = self._new_stack(grads)
        if self.layout.halo:
            stack.zero_()  # of which only pixels are written
        packed, by_blocks = self._packed_gradients(grads)
        for block, grad_rows in zip(self.blocks()[::-1], by_blocks[::-1], strict=True):
            m = shape.channels_before(block.start)
            self.backward_inside(planes, grads, weights, block)
            columns = _tap_columns([weights[layer][:, lowest:m] for layer in block])
            columns = columns.to(grads.dtype)
            deltas, wants = grads[shape.channels(block)], gradients.wants(block)
            for first, stop in self.strips():
                pixels = slice(first * self.layout.slice_size, stop * self.layout.slice_size)
                taps = stack[: columns.shape[1], : pixels.stop - pixels.start]
                self.taps.spread(deltas, block, taps, first, stop)
                if m > lowest:
                    grads[lowest:m, pixels].addmm_(columns, taps)
                if wants:
                    sources = planes[: grad_rows.shape[1], pixels].to(grads.dtype)
                    grad_rows.addmm_(taps, sources.t())
        if gradients.flat_weights is not None:
            gradients.flat_weights += packed.index_select(0, self._unpacking)
        if gradients.bias is not None:
            gradients.bias += grads[shape.c_in :].sum(1)

    def backward_inside(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], block: range
    ) -> None:
        """Make the gradients of a block's channels those before their ReLU, last layer first."""
        shape = self.shape
        m, own = shape.channels_before(block.start), shape.channels(block[-1:])
        self.inner.complete(grads[own], planes[own])
        for layer in reversed(block[1:]):
            own, before = (
                shape.channels(range(layer, layer + 1)),
                shape.channels(range(layer - 1, layer)),
            )
            self.inner.backward(
                weights[layer][:, m:],
                grads[own],
                grads[m : own.start],
                planes[before],
                shape.dilations[layer],
            )

    def _new_stack(self, like: Tensor) -> Tensor:
        num_rows = self.layers * self.shape.width * self.shape.num_taps
        columns = self.strip_slices * self.layout.slice_size
        return like.new_empty(num_rows, columns, dtype=self.real)

    def _new_sums(self, planes: Tensor) -> Tensor | None:
        """Where a block's sums lie, unless planes are precise enough: rounded at every strip, they
        would depend on where the strips begin."""
        if self.real == self.dtype:
            return None
        return planes.new_empty(self.layers * self.shape.width, planes.shape[1], dtype=self.real)

    def _packed_gradients(self, grads: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Zeros for the gradients by the weights of all blocks, and each block's part of them,
        [k * width * 3^n, channels before its last layer]."""
        shape = self.shape
        shapes = [
            (len(block) * shape.width * shape.num_taps, shape.channels_before(block[-1]))
            for block in self.blocks()
        ]
        packed = grads.new_zeros(sum(rows * columns for rows, columns in shapes))
        parts = packed.split([rows * columns for rows, columns in shapes])
        return packed, [part.view(size) for part, size in zip(parts, shapes, strict=True)]

    @cached_property
    def _unpacking(self) -> Tensor:
        """Where the gradient of each weight lies among the packed ones."""
        shape = self.shape
        blocks = tuple(self.blocks())
        return _unpacking_on(shape.c_in, shape.width, shape.num_taps, blocks, self.device)

    def blocks(self) -> list[range]:
        """Layers that are computed together."""
        return blocks_of(self.shape.depth, self.layers, self.layers)

    def strips(self) -> Iterator[tuple[int, int]]:
        """First slice and end of each strip, counted over all images."""
        for first in range(0, self.num_slices, self.strip_slices):
            yield first, min(first + self.strip_slices, self.num_slices)


def blocks_of(depth: int, first: int, layers: int) -> list[range]:
    """A first block of so many layers, others of ``layers``, the last of what is left."""
    starts = (0, *range(first, depth, layers))
    stops = (*starts[1:], depth)
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True)]


def multiply(rows: Tensor, channels: Tensor, out: Tensor) -> None:
    """Write rows [R, m] times channels [m, pixels] to ``out``, which may have a wider type."""
    if rows.dtype == out.dtype:
        torch.mm(rows, channels, out=out)
    elif channels.is_cuda and MIXED_PRODUCTS:
        torch.mm(rows, channels, out_dtype=out.dtype, out=out)
    else:
        torch.mm(rows.to(out.dtype), channels.to(out.dtype), out=out)


def _tap_columns(weights: Sequence[Tensor]) -> Tensor:
    """Weights [width, m, 3, 3(, 3)] of k layers as one matrix, [m, k * width * 3^n].

    The products take it, or its transpose, as it is: its rows are as long in all blocks, mostly a
    multiple of 8 as tensor cores prefer, while m is 1, 9, 17 ... for one input channel.
    """
    return torch.cat([weight.transpose(0, 1).flatten(1) for weight in weights], dim=1)


@cache
def _unpacking_on(
    c_in: int, width: int, num_taps: int, blocks: Sequence[range], device: torch.device
) -> Tensor:
    """For each weight, all layers in order, its place among `_packed_gradients`; kept for good."""
    places, start = [], 0
    for block in blocks:
        columns = channels_before(c_in, width, block[-1])
        shape = (len(block), width, num_taps, columns)
        packed = torch.arange(start, start + math.prod(shape)).view(shape)
        for index, layer in enumerate(block):
            by_taps = packed[index, :, :, : channels_before(c_in, width, layer)]
            places.append(by_taps.mT.flatten())
        start += packed.numel()
    return torch.cat(places).to(device)

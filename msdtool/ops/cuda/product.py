"""The MSD block on a GPU: matrix products by cuBLAS, the rest by our kernels.

The algorithm is that of `msdtool.ops.cpu.blocked`: for k layers together, over the channels before
all of them, one product and a shift-and-add of its taps (kernels/taps.cu); the few channels inside
the block of layers follow layer by layer (kernels/convolution.cu). In contrast to the CPU engine,
planes have no halo: the kernels find a pixel beyond the border by its index. And the images of a
batch lie one after another in each plane, so that one product serves them all.

Precision. Products are in full float32 unless the user allows TF32 with
`torch.set_float32_matmul_precision`. float16 and bfloat16 tensors keep their channels in that
type; sums, and gradients until they are returned, are float32. Two runs produce the same bits.

Terms as in `msdtool.ops.cuda.per_layer`.
"""

from collections.abc import Iterator, Sequence
from functools import cache, cached_property

import torch
from torch import Tensor

from msdtool.border import RULES
from msdtool.ops.cuda import convolution
from msdtool.ops.cuda.launcher import launch
from msdtool.ops.cuda.per_layer import STRIP_BYTES, PerLayerEngine
from msdtool.ops.cuda.sources import STORAGES, source_for
from msdtool.ops.engine import BlockShape, Gradients, Parameters

# Channels of a block: more read the preceding channels less often, but compute more channels inside
# the block one by one. Chosen by count, not measured: at depth 100, width 1 in 2D, 8 read 650
# planes and leave 32 loads per pixel and layer.
BLOCK_CHANNELS = {2: 8, 3: 4}
# Where the taps of one slice of a block exceed this, the block has fewer layers.
MAX_STRIP_BYTES = 256 * 2**20
THREADS = 256

SOURCES = tuple(source_for("taps", dtype, NDIM=ndim) for dtype in STORAGES for ndim in (2, 3))


class ProductEngine(PerLayerEngine):
    """Computes an MSD block as matrix products, k layers at a time, strip by strip."""

    def __init__(self, shape: BlockShape, like: Tensor) -> None:
        super().__init__(shape, like)
        self.source = source_for("taps", like.dtype, NDIM=len(shape.space))
        self.device = like.device
        self.num_slices = shape.batch * shape.space[0]
        slice_bytes = shape.slice_size * shape.num_taps * shape.width * 4
        layers = min(
            BLOCK_CHANNELS[len(shape.space)] // shape.width, MAX_STRIP_BYTES // slice_bytes
        )
        self.layers = max(1, min(layers, shape.depth))
        self.strip_slices = max(1, min(self.num_slices, STRIP_BYTES // (slice_bytes * self.layers)))

    @cached_property
    def dilations(self) -> Tensor:
        """Those of all layers, as the kernels read them."""
        return _on_device(self.shape.dilations, self.device)

    @property
    def workspace_bytes(self) -> int:
        rows = self.layers * self.shape.width * self.shape.num_taps
        return rows * self.strip_slices * self.shape.slice_size * self.element_size

    def forward(self, planes: Tensor, parameters: Parameters) -> None:
        shape, weights, bias = self.shape, parameters.weights, parameters.bias
        stack = self._new_stack(planes)
        for block in self.blocks():
            m = shape.channels_before(block.start)
            rows = _tap_columns([weights[layer][:, :m] for layer in block]).t()
            self.convolve_front(planes, rows, bias[shape.outputs(block)], block, stack)
            for layer in block:
                channels = shape.channels(range(layer, layer + 1))
                convolution.forward(
                    self.images(planes[m : channels.start]),
                    weights[layer][:, m:],
                    None,
                    self.images(planes[channels]),
                    self.geometry(layer),
                    relu=True,
                )

    def convolve_front(
        self, planes: Tensor, rows: Tensor, bias: Tensor, block: range, stack: Tensor
    ) -> None:
        """Write a block's convolutions of the channels before it, with bias, to its channels.

        Args:
            rows: weights of these channels, [k * width * 3^n, m].
            bias: [k * width].
            stack: workspace of at least as many rows.
        """
        size, m = self.shape.slice_size, rows.shape[1]
        for first, stop in self.strips():
            taps = stack[: len(rows), : (stop - first) * size]
            torch.mm(rows, planes[:m, first * size : stop * size], out=taps)
            self.gather(taps, bias, block, planes[self.shape.channels(block)], first, stop)

    def backward_layers(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: Gradients
    ) -> None:
        lowest = 0 if gradients.input is not None else self.shape.c_in
        stack = self._new_stack(grads)
        for block in reversed(self.blocks()):
            m = self.shape.channels_before(block.start)
            for layer in reversed(block[1:]):
                self.add_to_sources(planes, grads, weights, layer, m)
            columns = _tap_columns([weights[layer][:, lowest:m] for layer in block])
            columns = columns.to(grads.dtype)
            num_sources = self.shape.channels_before(block.stop - 1)
            grad_rows = grads.new_zeros(columns.shape[1], num_sources)
            grad_bias = grads.new_zeros(columns.shape[1] // self.shape.num_taps)
            wants = gradients.wants(block)
            for first, stop in self.strips():
                pixels = slice(first * self.shape.slice_size, stop * self.shape.slice_size)
                taps = stack[: columns.shape[1], : pixels.stop - pixels.start]
                self.spread(grads, planes, block, taps, first, stop)
                if m > lowest:
                    grads[lowest:m, pixels].addmm_(columns, taps)
                if wants:
                    sources = planes[:num_sources, pixels].to(grads.dtype)
                    grad_rows.addmm_(taps, sources.t())
                    center = self.shape.num_taps // 2
                    grad_bias += taps[center :: self.shape.num_taps].sum(1)
            if wants:
                self._add_gradients(gradients, block, grad_rows, grad_bias)

    def _add_gradients(
        self, gradients: Gradients, block: range, grad_rows: Tensor, grad_bias: Tensor
    ) -> None:
        """Split gradients [k * width * 3^n, sources] and [k * width] into those of the layers."""
        by_taps = grad_rows.view(len(block), self.shape.width, self.shape.num_taps, -1).mT
        by_bias = grad_bias.view(len(block), self.shape.width)
        for index, layer in enumerate(block):
            alone = range(layer, layer + 1)
            by_weight = by_taps[index, :, : self.shape.channels_before(layer)]
            gradients.add(layer, self.shape.outputs(alone), by_weight.contiguous(), by_bias[index])

    def gather(
        self, taps: Tensor, bias: Tensor, block: range, outputs: Tensor, first: int, stop: int
    ) -> None:
        """Add the taps of a strip to the outputs [k * width, B * pixels] of a block.

        The first strip to reach a pixel starts from the bias [k * width].
        """
        margin = max(self.shape.dilations[layer] for layer in block)
        low, high = max(first - margin, 0), min(stop + margin, self.num_slices)
        launch(
            self.source,
            "taps_gather",
            (_num_blocks((high - low) * self.shape.slice_size), len(outputs)),
            (THREADS,),
            taps,
            taps.stride(0),
            bias,
            self.dilations[block.start : block.stop],
            outputs,
            outputs.stride(0),
            first,
            stop,
            margin,
            self.shape.batch,
            *self._sizes(),
        )

    def spread(
        self, grads: Tensor, planes: Tensor, block: range, taps: Tensor, first: int, stop: int
    ) -> None:
        """Write the taps of a strip from the gradients of a block's outputs."""
        channels = self.shape.channels(block)
        launch(
            self.source,
            "taps_spread",
            (_num_blocks(taps.shape[1]), channels.stop - channels.start),
            (THREADS,),
            grads[channels],
            planes[channels],
            grads.stride(0),
            self.dilations[block.start : block.stop],
            taps,
            taps.stride(0),
            first,
            stop,
            *self._sizes(),
        )

    def _sizes(self) -> tuple[int, ...]:
        """Slices per image, rows and columns of a slice, channels per layer, border rule."""
        num_slices, *rest = self.shape.space
        missing = (1,) * (2 - len(rest))
        return (num_slices, *missing, *rest, self.shape.width, RULES[self.shape.padding])

    def _new_stack(self, like: Tensor) -> Tensor:
        num_rows = self.layers * self.shape.width * self.shape.num_taps
        return like.new_empty(num_rows, self.strip_slices * self.shape.slice_size)

    def blocks(self) -> list[range]:
        """Layers that are computed together."""
        depth = self.shape.depth
        starts = range(0, depth, self.layers)
        return [range(start, min(start + self.layers, depth)) for start in starts]

    def strips(self) -> Iterator[tuple[int, int]]:
        """First slice and end of each strip, counted over all images."""
        for first in range(0, self.num_slices, self.strip_slices):
            yield first, min(first + self.strip_slices, self.num_slices)


def _tap_columns(weights: Sequence[Tensor]) -> Tensor:
    """Weights [width, m, 3, 3(, 3)] of k layers as one matrix, [m, k * width * 3^n].

    The products take it, or its transpose, as it is: its rows are as long in all blocks, mostly a
    multiple of 8 as tensor cores prefer, while m is 1, 9, 17 ... for one input channel.
    """
    return torch.cat([weight.transpose(0, 1).flatten(1) for weight in weights], dim=1)


@cache
def _on_device(dilations: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept for good: a CUDA graph cannot capture the copy, and refers to its result by address."""
    return torch.tensor(dilations, dtype=torch.int64, device=device)


def _num_blocks(threads: int) -> int:
    return -(-threads // THREADS)

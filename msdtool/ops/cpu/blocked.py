"""An MSD block as matrix products in plain torch: forward and backward, in place, on any device.

The taps of a convolution commute with the sum over channels. So for k layers together, over the
m channels before all of them, Z = W Y is one matrix product [k * width * 3^n, m] x [m, pixels],
and each layer is a shift-and-add of its 3^n planes of Z (`msdtool.ops.cpu.taps`); the few channels
inside the block of layers follow layer by layer. Backward, with S the adjoint of the
shift-and-add, G += W^T S and dW = S Y^T. Tiles of whole slices keep Z and S in the cache.

More rows per product, k * width * 3^n, read the preceding channels less often and suit BLAS better;
but every layer after the first of its block needs a second, small product and shift-and-add for the
channels inside the block. Measured on one AVX-512 core at 256 x 256: forward is best near 27 rows
and flat up to 144; backward, which passes over the channels three times per block, is best at 144.
In 3D one layer has 27 rows and its shifts outweigh the products, so a second round of them did not
pay: k = 1 at 64^3. A tile is as many slices as keep the stack of taps within `STACK_BYTES`. Smaller
tiles would stay in a core's own cache, but then the calls, some 10 per layer and tile, cost more
than they save.

Terms: planes [C, size] are the channels of one image in a `Layout`, grads [C, size] the gradient
with respect to them; ``m`` counts the channels that precede a block of layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.ops.cpu import products
from msdtool.ops.cpu.images import ImageEngine
from msdtool.ops.cpu.layout import Layout
from msdtool.ops.cpu.products import add_pixel_sums, matrix_product, reversed_tap_rows, tap_rows
from msdtool.ops.cpu.taps import DeltaTile, TapStack
from msdtool.ops.engine import BlockShape, Gradients, Parameters

# The workspace holds two stacks (one if k = 1), a channel's gradient on a tile and a strip of the
# final layer. In 3D one slice must fit, which holds up to 500 x 500 pixels of width 1; beyond that
# the workspace grows with the slice. The compiled engine has no such limit.
STACK_BYTES = 16 * 2**20

FORWARD_CHANNELS_2D = 4
BACKWARD_CHANNELS_2D = 16


@dataclass(frozen=True)
class Plan:
    """Layers per block of the forward and the backward pass, and the bytes of a slice's taps."""

    forward_layers: int
    backward_layers: int
    slice_bytes: int
    num_slices: int

    def tile_slices(self, layers: int) -> int:
        """Slices of a tile whose stack holds the taps of some layers."""
        return max(1, min(self.num_slices, STACK_BYTES // (self.slice_bytes * layers)))


def make_plan(layout: Layout, width: int, depth: int, element_size: int) -> Plan:
    """Choose k for images of this layout, so that a slice stays within `STACK_BYTES`."""
    slice_bytes = layout.slice_size * int(3 ** len(layout.space)) * width * element_size

    def layers(channels_2d: int) -> int:
        channels = channels_2d if len(layout.space) == 2 else 1
        return max(1, min(channels // width, depth, STACK_BYTES // slice_bytes))

    return Plan(
        layers(FORWARD_CHANNELS_2D),
        layers(BACKWARD_CHANNELS_2D),
        slice_bytes,
        layout.num_slices,
    )


class BlockedEngine(ImageEngine):
    """Computes a batch image by image as matrix products of torch."""

    def __init__(self, shape: BlockShape, like: Tensor) -> None:
        super().__init__(shape, like)
        self.layout = Layout(shape.space, max(shape.dilations), shape.padding)
        self.element_size = like.element_size()
        self.plan = make_plan(self.layout, shape.width, shape.depth, self.element_size)

    @property
    def slice_bytes(self) -> int:
        return self.shape.num_channels * self.layout.slice_size * self.element_size

    @property
    def workspace_bytes(self) -> int:
        layers = {self.plan.forward_layers, 1}
        stacks = (n * self.plan.slice_bytes * self.plan.tile_slices(n) for n in layers)
        return sum(stacks) + max(products.STRIP_BYTES, self.slice_bytes)

    def new_buffer(self, *leading: int, like: Tensor) -> Tensor:
        return self.layout.new_planes(*leading, self.shape.num_channels, like=like)

    def images(self, planes: Tensor) -> Tensor:
        return self.layout.interior(planes)

    def load(self, grads: Tensor, images: Tensor) -> None:
        self.layout.load(grads, images)

    def forward_image(self, planes: Tensor, parameters: Parameters) -> None:
        weights, bias = parameters.weights, parameters.bias
        block_stack, layer_stack = self._stacks(self.plan.forward_layers, planes)
        self.layout.fill_halo(planes[: self.shape.c_in])
        for block in self._blocks(self.plan.forward_layers):
            m = self.shape.channels_before(block.start)
            planes[self.shape.channels(block)] = bias[self.shape.outputs(block), None]
            rows = torch.cat([tap_rows(weights[layer][:, :m]) for layer in block])
            self._convolve(block_stack, rows, planes[:m], planes, block)
            for layer in block:
                alone = range(layer, layer + 1)
                channels = self.shape.channels(alone)
                if layer > block.start:
                    rows = tap_rows(weights[layer][:, m:])
                    self._convolve(layer_stack, rows, planes[m : channels.start], planes, alone)
                planes[channels].relu_()
                self.layout.fill_halo(planes[channels])

    def backward_image(
        self, planes: Tensor, grads: Tensor, parameters: Parameters, gradients: Gradients
    ) -> None:
        weights = parameters.weights
        block_stack, layer_stack = self._stacks(self.plan.backward_layers, planes)
        layer_delta = DeltaTile(layer_stack)
        block_delta = layer_delta if block_stack is layer_stack else DeltaTile(block_stack)
        for block in reversed(self._blocks(self.plan.backward_layers)):
            m = self.shape.channels_before(block.start)
            for layer in reversed(block):
                alone = range(layer, layer + 1)
                channels = self.shape.channels(alone)
                self.layout.fold_halo(grads[channels])
                if layer == block.start:
                    continue
                columns = reversed_tap_rows(weights[layer][:, m:]).t()
                for start, stop, pixels in self._tiles(layer_stack):
                    layer_delta.take(grads, planes, start, stop)
                    taps = self._spread(layer_stack, layer_delta, alone)
                    grads[m : channels.start, pixels].addmm_(columns, taps)
            self._backward_block(
                block_stack, block_delta, planes, grads, block, parameters, gradients
            )
        if gradients.input is not None:
            self.layout.fold_halo(grads[: self.shape.c_in])

    def forward_final_image(
        self, planes: Tensor, weight: Tensor, bias: Tensor, output: Tensor
    ) -> None:
        products.forward_final(self.layout, planes, weight, bias, output)

    def backward_final_image(
        self,
        planes: Tensor,
        weight: Tensor,
        grad_output: Tensor,
        grads: Tensor,
        grad_weight: Tensor | None,
    ) -> None:
        products.backward_final(self.layout, planes, weight, grad_output, grads, grad_weight)

    def _backward_block(
        self,
        stack: TapStack,
        delta: DeltaTile,
        planes: Tensor,
        grads: Tensor,
        block: range,
        parameters: Parameters,
        gradients: Gradients,
    ) -> None:
        """Gradients with respect to the parameters of a block and the channels before it."""
        weights = parameters.weights
        m = self.shape.channels_before(block.start)
        lowest = 0 if gradients.input is not None else self.shape.c_in
        columns = torch.cat([reversed_tap_rows(weights[layer][:, lowest:m]) for layer in block]).t()
        # Up to the last source in the block: the rows of each layer are cut out at the end.
        num_sources = self.shape.channels_before(block.stop - 1)
        grad_columns = planes.new_zeros(num_sources, columns.shape[1])
        needs_weights = any(gradients.weights[layer] is not None for layer in block)
        for start, stop, pixels in self._tiles(stack):
            delta.take(grads, planes, start, stop)
            taps = self._spread(stack, delta, block)
            if m > lowest:
                grads[lowest:m, pixels].addmm_(columns, taps)
            if needs_weights:
                add_pixel_sums(grad_columns, planes[:num_sources, pixels], taps)
            if gradients.bias is not None:
                center = taps[stack.num_taps // 2 :: stack.num_taps]
                gradients.bias[self.shape.outputs(block)] += center.sum(1)
        self._add_weight_gradients(gradients, block, grad_columns)

    def _add_weight_gradients(
        self, gradients: Gradients, block: range, grad_columns: Tensor
    ) -> None:
        """Cut the gradient [sources, block * width * 3^n], taps reversed, into weights."""
        shape = (len(block), self.shape.width, 3 ** len(self.layout.space))
        grad_taps = grad_columns.view(-1, *shape).flip(-1)
        for index, layer in enumerate(block):
            target = gradients.weights[layer]
            if target is not None:
                sources = grad_taps[: self.shape.channels_before(layer), index]
                target.flatten(2).add_(sources.transpose(0, 1))

    def _convolve(
        self, stack: TapStack, rows: Tensor, sources: Tensor, planes: Tensor, layers: range
    ) -> None:
        """Add the convolutions of sources [m, size] to the channels of some layers."""
        channels = self.shape.channels(layers)
        for start, stop, pixels in self._tiles(stack):
            taps = stack.tile(channels.stop - channels.start, stop - start)
            matrix_product(rows, sources[:, pixels], out=taps)
            for index, output in enumerate(planes[channels]):
                stack.gather(index, self._dilation(layers, index), start, stop, output)

    def _spread(self, stack: TapStack, delta: DeltaTile, layers: range) -> Tensor:
        """The stack S of some layers on a tile, [len(layers) * width * 3^n, pixels]."""
        channels = self.shape.channels(layers)
        for index in range(channels.stop - channels.start):
            delta.load(channels.start + index, self._dilation(layers, index))
            stack.spread(index, delta)
        return stack.tile(channels.stop - channels.start, delta.stop - delta.first)

    def _stacks(self, layers: int, like: Tensor) -> tuple[TapStack, TapStack]:
        """Workspace for the layers of a block together, and for one layer."""
        width, plan = self.shape.width, self.plan
        layer_stack = TapStack(self.layout, width, plan.tile_slices(1), like)
        if layers == 1:
            return layer_stack, layer_stack
        tile_slices = plan.tile_slices(layers)
        return TapStack(self.layout, width * layers, tile_slices, like), layer_stack

    def _blocks(self, layers: int) -> list[range]:
        depth = self.shape.depth
        return [range(first, min(first + layers, depth)) for first in range(0, depth, layers)]

    def _dilation(self, layers: range, index: int) -> int:
        """Dilation of channel ``index`` of some layers."""
        return self.shape.dilations[layers.start + index // self.shape.width]

    def _tiles(self, stack: TapStack) -> Iterator[tuple[int, int, slice]]:
        """First slice and end of each tile, and its elements of a plane."""
        step = self.layout.slice_size
        for start in range(0, self.layout.num_slices, stack.tile_slices):
            stop = min(start + stack.tile_slices, self.layout.num_slices)
            yield start, stop, slice(start * step, stop * step)

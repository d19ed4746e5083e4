"""An MSD block as matrix products: forward and backward of one image, in place.

The taps of a convolution commute with the sum over channels. So for k layers together, over the
m channels in front of all of them, Z = W Y is one matrix product [k * width * 3^n, m] x
[m, pixels], and each layer is a shift-and-add of its 3^n planes of Z (`msdtool.ops.taps`); the few
channels inside the block of layers follow layer by layer. Backward, with S the adjoint of the
shift-and-add, G += W^T S and dW = S Y^T. Tiles of whole slices keep Z and S in the cache.

Terms: planes [C, size] are the channels of one image in a `Layout`, grads [C, size] the
gradient by them; ``m`` counts the channels in front of a block of layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.ops.final import backward_final, forward_final
from msdtool.ops.halo import Layout
from msdtool.ops.plan import make_plan
from msdtool.ops.products import add_pixel_sums, matrix_product
from msdtool.ops.taps import DeltaTile, TapStack


@dataclass(frozen=True)
class Network:
    """Sizes of an MSD block; one dilation per layer."""

    c_in: int
    width: int
    dilations: tuple[int, ...]

    @property
    def depth(self) -> int:
        return len(self.dilations)

    def channels_before(self, layer: int) -> int:
        """Channels in front of a layer, the ones it reads."""
        return self.c_in + self.width * layer


class BlockGradients:
    """Gradients by the parameters, summed over images; None where not asked for."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        bias: Tensor,
        needs_input: bool,
        needs_bias: bool,
        needs_weights: Sequence[bool],
    ) -> None:
        self.needs_input = needs_input
        self.bias = bias.new_zeros(bias.shape) if needs_bias else None
        self.weights = [
            weight.new_zeros(weight.shape) if needed else None
            for weight, needed in zip(weights, needs_weights, strict=True)
        ]


class BlockEngine:
    """Computes one MSD block on images of one size."""

    def __init__(self, network: Network, layout: Layout, element_size: int) -> None:
        self.network = network
        self.layout = layout
        self.element_size = element_size
        self.plan = make_plan(layout, network.width, network.depth, element_size)

    def new_planes(self, *leading: int, like: Tensor) -> Tensor:
        """Uninitialised buffer of all channels, [*leading, C, size]."""
        num_channels = self.network.channels_before(self.network.depth)
        return self.layout.new_planes(*leading, num_channels, like=like)

    @property
    def slice_bytes(self) -> int:
        """Bytes of all channels in one slice."""
        num_channels = self.network.channels_before(self.network.depth)
        return num_channels * self.layout.slice_size * self.element_size

    def pixels(self, planes: Tensor) -> Tensor:
        """View planes [*leading, C, size] as images [*leading, C, *space]."""
        return self.layout.interior(planes)

    def load(self, grads: Tensor, pixels: Tensor) -> None:
        """Copy the gradients by all channels, [C, *space], to grads."""
        self.layout.load(grads, pixels)

    def forward(self, planes: Tensor, weights: Sequence[Tensor], bias: Tensor) -> None:
        """Compute all channels of planes after the first c_in, whose interior is given."""
        block_stack, layer_stack = self._stacks(self.plan.forward_layers, planes)
        self.layout.fill_halo(planes[: self.network.c_in])
        for block in self._blocks(self.plan.forward_layers):
            m = self.network.channels_before(block.start)
            planes[self._channels(block)] = bias[self._outputs(block), None]
            rows = torch.cat([tap_rows(weights[layer][:, :m]) for layer in block])
            self._convolve(block_stack, rows, planes[:m], planes, block)
            for layer in block:
                alone = range(layer, layer + 1)
                channels = self._channels(alone)
                if layer > block.start:
                    rows = tap_rows(weights[layer][:, m:])
                    self._convolve(layer_stack, rows, planes[m : channels.start], planes, alone)
                planes[channels].relu_()
                self.layout.fill_halo(planes[channels])

    def backward(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: BlockGradients
    ) -> None:
        """Add the gradients of one image; grads ends as the gradient by the input channels."""
        block_stack, layer_stack = self._stacks(self.plan.backward_layers, planes)
        layer_delta = DeltaTile(layer_stack)
        block_delta = layer_delta if block_stack is layer_stack else DeltaTile(block_stack)
        for block in reversed(self._blocks(self.plan.backward_layers)):
            m = self.network.channels_before(block.start)
            for layer in reversed(block):
                alone = range(layer, layer + 1)
                channels = self._channels(alone)
                self.layout.fold_halo(grads[channels])
                if layer == block.start:
                    continue
                columns = reversed_tap_rows(weights[layer][:, m:]).t()
                for start, stop, pixels in self._tiles(layer_stack):
                    layer_delta.take(grads, planes, start, stop)
                    taps = self._spread(layer_stack, layer_delta, alone)
                    grads[m : channels.start, pixels].addmm_(columns, taps)
            self._backward_block(block_stack, block_delta, planes, grads, block, weights, gradients)
        if gradients.needs_input:
            self.layout.fold_halo(grads[: self.network.c_in])

    def forward_final(self, planes: Tensor, weight: Tensor, bias: Tensor, output: Tensor) -> None:
        """Write weight [c_out, C, 1] times planes plus bias [c_out] to output [c_out, *space]."""
        forward_final(self.layout, planes, weight, bias, output)

    def backward_final(
        self,
        planes: Tensor,
        weight: Tensor,
        grad_output: Tensor,
        grads: Tensor,
        grad_weight: Tensor | None,
    ) -> None:
        """Write the gradient by every channel to grads; add that by the weight to grad_weight."""
        backward_final(self.layout, planes, weight, grad_output, grads, grad_weight)

    def _backward_block(
        self,
        stack: TapStack,
        delta: DeltaTile,
        planes: Tensor,
        grads: Tensor,
        block: range,
        weights: Sequence[Tensor],
        gradients: BlockGradients,
    ) -> None:
        """Gradients by a block's parameters and by the channels in front of it."""
        m = self.network.channels_before(block.start)
        lowest = 0 if gradients.needs_input else self.network.c_in
        columns = torch.cat([reversed_tap_rows(weights[layer][:, lowest:m]) for layer in block]).t()
        # Up to the last source in the block: a layer's own rows are cut out at the end.
        num_sources = self.network.channels_before(block.stop - 1)
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
                gradients.bias[self._outputs(block)] += center.sum(1)
        self._add_weight_gradients(gradients, block, grad_columns)

    def _add_weight_gradients(
        self, gradients: BlockGradients, block: range, grad_columns: Tensor
    ) -> None:
        """Cut the gradient [sources, block * width * 3^n], taps reversed, into weights."""
        shape = (len(block), self.network.width, 3 ** len(self.layout.space))
        grad_taps = grad_columns.view(-1, *shape).flip(-1)
        for index, layer in enumerate(block):
            target = gradients.weights[layer]
            if target is not None:
                sources = grad_taps[: self.network.channels_before(layer), index]
                target.flatten(2).add_(sources.transpose(0, 1))

    def _convolve(
        self, stack: TapStack, rows: Tensor, sources: Tensor, planes: Tensor, layers: range
    ) -> None:
        """Add the convolutions of sources [m, size] to the channels of some layers."""
        channels = self._channels(layers)
        for start, stop, pixels in self._tiles(stack):
            taps = stack.tile(channels.stop - channels.start, stop - start)
            matrix_product(rows, sources[:, pixels], out=taps)
            for index, output in enumerate(planes[channels]):
                stack.gather(index, self._dilation(layers, index), start, stop, output)

    def _spread(self, stack: TapStack, delta: DeltaTile, layers: range) -> Tensor:
        """The stack S of some layers on a tile, [len(layers) * width * 3^n, pixels]."""
        channels = self._channels(layers)
        for index in range(channels.stop - channels.start):
            delta.load(channels.start + index, self._dilation(layers, index))
            stack.spread(index, delta)
        return stack.tile(channels.stop - channels.start, delta.stop - delta.first)

    def _stacks(self, layers: int, like: Tensor) -> tuple[TapStack, TapStack]:
        """Workspace for the layers of a block together, and for one layer."""
        width, plan = self.network.width, self.plan
        layer_stack = TapStack(self.layout, width, plan.tile_slices(1), like)
        if layers == 1:
            return layer_stack, layer_stack
        tile_slices = plan.tile_slices(layers)
        return TapStack(self.layout, width * layers, tile_slices, like), layer_stack

    def _blocks(self, layers: int) -> list[range]:
        depth = self.network.depth
        return [range(first, min(first + layers, depth)) for first in range(0, depth, layers)]

    def _channels(self, layers: range) -> slice:
        """The channels that some layers compute."""
        before = self.network.channels_before
        return slice(before(layers.start), before(layers.stop))

    def _outputs(self, layers: range) -> slice:
        """The same, counted without the input channels."""
        return slice(layers.start * self.network.width, layers.stop * self.network.width)

    def _dilation(self, layers: range, index: int) -> int:
        """Dilation of channel ``index`` of some layers."""
        return self.network.dilations[layers.start + index // self.network.width]

    def _tiles(self, stack: TapStack) -> Iterator[tuple[int, int, slice]]:
        """First slice and end of each tile, and its elements of a plane."""
        step = self.layout.slice_size
        for start in range(0, self.layout.num_slices, stack.tile_slices):
            stop = min(start + stack.tile_slices, self.layout.num_slices)
            yield start, stop, slice(start * step, stop * step)


def tap_rows(weight: Tensor) -> Tensor:
    """A weight [width, m, 3, 3(, 3)] as the rows of a matrix product, [width * 3^n, m]."""
    return weight.flatten(2).transpose(1, 2).flatten(0, 1)


def reversed_tap_rows(weight: Tensor) -> Tensor:
    """`tap_rows` with the taps in the order of `TapStack.spread`."""
    return tap_rows(weight.flatten(2).flip(2))

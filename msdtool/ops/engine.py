"""An MSD block as matrix products: forward and backward of one image, in place.

The taps of a convolution commute with the sum over channels. So for k layers together, over the
m channels in front of all of them, Z = W Y is one matrix product [k * width * 3^n, m] x
[m, pixels], and each layer is a shift-and-add of its 3^n planes of Z (`msdtool.ops.taps`); the few
channels inside the block of layers follow layer by layer. Backward, with S the adjoint of the
shift-and-add, G += W^T S and dW = S Y^T. Tiles of whole slices keep Z and S in the cache.

Terms: planes [C, size] are the channels of one image in a `Layout`, grads [C, size] the
gradient by them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
        self.bias = torch.zeros_like(bias) if needs_bias else None
        self.weights = [
            torch.zeros_like(weight) if needed else None
            for weight, needed in zip(weights, needs_weights, strict=True)
        ]


class BlockEngine:
    """Computes one MSD block on images of one size."""

    def __init__(self, network: Network, layout: Layout, element_size: int) -> None:
        self.network = network
        self.layout = layout
        self.plan = make_plan(layout, network.width, network.depth, element_size)

    def new_planes(self, *leading: int, like: Tensor) -> Tensor:
        """Uninitialised buffer of all channels, [*leading, C, size]."""
        num_channels = self.network.channels_before(self.network.depth)
        return self.layout.new_planes(*leading, num_channels, like=like)

    def forward(self, planes: Tensor, weights: Sequence[Tensor], bias: Tensor) -> None:
        """Compute all channels of planes after the first c_in, whose interior is given."""
        width, channels_before = self.network.width, self.network.channels_before
        block_stack, layer_stack = self._stacks(planes)
        self.layout.fill_halo(planes[: self.network.c_in])
        for block in self._blocks():
            m = channels_before(block.start)
            biases = bias[block.start * width : block.stop * width]
            planes[m : channels_before(block.stop)] = biases[:, None]
            rows = torch.cat([tap_rows(weights[layer][:, :m]) for layer in block])
            self._convolve(block_stack, rows, planes[:m], planes, block)
            for layer in block:
                first = channels_before(layer)
                if layer > block.start:
                    rows = tap_rows(weights[layer][:, m:])
                    layers = range(layer, layer + 1)
                    self._convolve(layer_stack, rows, planes[m:first], planes, layers)
                outputs = planes[first : first + width]
                outputs.relu_()
                self.layout.fill_halo(outputs)

    def backward(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], gradients: BlockGradients
    ) -> None:
        """Add the gradients of one image; grads ends as the gradient by the input channels."""
        width, channels_before = self.network.width, self.network.channels_before
        block_stack, layer_stack = self._stacks(planes)
        block_delta, layer_delta = (DeltaTile(stack) for stack in (block_stack, layer_stack))
        for block in reversed(self._blocks()):
            m = channels_before(block.start)
            for layer in reversed(block):
                first = channels_before(layer)
                self.layout.fold_halo(grads[first : first + width])
                if layer > block.start:
                    columns = reversed_tap_rows(weights[layer][:, m:]).t()
                    layers = range(layer, layer + 1)
                    for start, stop, pixels in self._tiles(layer_stack):
                        taps = self._spread(
                            layer_stack, layer_delta, planes, grads, layers, start, stop
                        )
                        grads[m:first, pixels].addmm_(columns, taps)
            self._backward_block(block_stack, block_delta, planes, grads, block, weights, gradients)
        if gradients.needs_input:
            self.layout.fold_halo(grads[: self.network.c_in])

    def _backward_block(self, stack, delta, planes, grads, block, weights, gradients) -> None:
        m = self.network.channels_before(block.start)
        lowest = 0 if gradients.needs_input else self.network.c_in
        columns = torch.cat([reversed_tap_rows(weights[layer][:, lowest:m]) for layer in block]).t()
        width = self.network.width
        num_sources = self.network.channels_before(block.stop - 1)
        needs_weights = any(gradients.weights[layer] is not None for layer in block)
        grad_columns = planes.new_zeros(num_sources, columns.shape[1])
        for start, stop, pixels in self._tiles(stack):
            taps = self._spread(stack, delta, planes, grads, block, start, stop)
            if m > lowest:
                grads[lowest:m, pixels].addmm_(columns, taps)
            if needs_weights:
                add_pixel_sums(grad_columns, planes[:num_sources, pixels], taps)
            if gradients.bias is not None:
                center = taps[stack.num_taps // 2 :: stack.num_taps]
                gradients.bias[block.start * width : block.stop * width] += center.sum(1)
        grad_taps = grad_columns.unflatten(1, (len(block), width, stack.num_taps)).flip(-1)
        for index, layer in enumerate(block):
            target = gradients.weights[layer]
            if target is not None:
                sources = grad_taps[: self.network.channels_before(layer), index]
                target.flatten(2).add_(sources.transpose(0, 1))

    def _convolve(self, stack, rows, sources, planes, layers) -> None:
        """Add the convolutions of sources [m, size] to the channels of some layers."""
        width = self.network.width
        first = self.network.channels_before(layers.start)
        for start, stop, pixels in self._tiles(stack):
            taps = stack.tile(width * len(layers), stop - start)
            matrix_product(rows, sources[:, pixels], out=taps)
            for channel in range(width * len(layers)):
                dilation = self.network.dilations[layers.start + channel // width]
                stack.gather(channel, dilation, start, stop, planes[first + channel])

    def _spread(self, stack, delta, planes, grads, layers, start, stop) -> Tensor:
        """The stack S of some layers on a tile, [len(layers) * width * 3^n, pixels]."""
        width = self.network.width
        first = self.network.channels_before(layers.start)
        for channel in range(width * len(layers)):
            dilation = self.network.dilations[layers.start + channel // width]
            delta.load(grads[first + channel], planes[first + channel], start, stop, dilation)
            stack.spread(channel, dilation, start, stop, delta)
        return stack.tile(width * len(layers), stop - start)

    def _stacks(self, planes: Tensor) -> tuple[TapStack, TapStack]:
        """Workspace for the layers of a block together, and for one layer."""
        width, plan = self.network.width, self.plan
        return (
            TapStack(self.layout, width * plan.layers_per_block, plan.block_tile, planes),
            TapStack(self.layout, width, plan.layer_tile, planes),
        )

    def _blocks(self) -> list[range]:
        step, depth = self.plan.layers_per_block, self.network.depth
        return [range(first, min(first + step, depth)) for first in range(0, depth, step)]

    def _tiles(self, stack: TapStack) -> Iterator[tuple[int, int, slice]]:
        """First and last slice of each tile, and its elements of a plane."""
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

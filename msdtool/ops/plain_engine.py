"""The MSD block and module on a GPU, one kernel per layer and operation (kernels/convolution.cu).

No products: slow, and what `msdtool.ops.cuda_engine` is checked against and builds on.

Terms: planes [C, B * pixels] are the channels of all images in storage type, grads [C, B * pixels]
the gradient by them in the type computed in; ``m`` counts the channels in front of a block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msdtool.ops import convolution
from msdtool.ops.convolution import Geometry, compute_dtype


@dataclass(frozen=True)
class Shape:
    """Sizes of a network and of the batch it is applied to; one dilation per layer."""

    c_in: int
    width: int
    dilations: tuple[int, ...]
    padding: str
    batch: int
    space: tuple[int, ...]

    @property
    def depth(self) -> int:
        return len(self.dilations)

    @property
    def num_taps(self) -> int:
        return int(3 ** len(self.space))

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        return self.batch * math.prod(self.space)

    @property
    def slice_size(self) -> int:
        """Pixels of one index of the outermost axis."""
        return math.prod(self.space[1:])

    def channels_before(self, layer: int) -> int:
        """Channels in front of a layer, the ones it reads."""
        return self.c_in + self.width * layer

    def channels(self, layers: range) -> slice:
        """Channels that some layers write."""
        return slice(self.channels_before(layers.start), self.channels_before(layers.stop))

    def outputs(self, layers: range) -> slice:
        """The same among the outputs of all layers, such as the biases."""
        return slice(self.width * layers.start, self.width * layers.stop)

    def geometry(self, layer: int) -> Geometry:
        return Geometry(self.padding, 1, self.dilations[layer])


class Gradients:
    """Gradients by the parameters of the block, None where not asked for."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        bias: Tensor,
        needs_bias: bool,
        needs_weights: Sequence[bool],
    ) -> None:
        dtype = compute_dtype(bias.dtype)
        self.bias = torch.zeros_like(bias, dtype=dtype) if needs_bias else None
        self.weights = [
            torch.zeros_like(weight, dtype=dtype) if needed else None
            for weight, needed in zip(weights, needs_weights, strict=True)
        ]

    def wants(self, layers: range) -> bool:
        """Whether any parameter of these layers has a gradient."""
        return self.bias is not None or any(self.weights[layer] is not None for layer in layers)

    def add(self, layer: int, outputs: slice, weight: Tensor, bias: Tensor) -> None:
        """Add the gradients of one layer."""
        target = self.weights[layer]
        if target is not None:
            target.add_(weight.view_as(target))
        if self.bias is not None:
            self.bias[outputs] += bias


class PlainEngine:
    """Computes an MSD block with one kernel per layer and operation."""

    def __init__(self, shape: Shape, like: Tensor) -> None:
        self.shape = shape

    def images(self, planes: Tensor) -> Tensor:
        """View planes [C, B * pixels] as [B, C, *space]."""
        return planes.view(len(planes), self.shape.batch, *self.shape.space).transpose(0, 1)

    def forward(self, planes: Tensor, weights: Sequence[Tensor], bias: Tensor) -> None:
        """Compute all channels of planes after the first c_in, which are given."""
        for layer in range(self.shape.depth):
            alone = range(layer, layer + 1)
            channels = self.shape.channels(alone)
            convolution.forward(
                self.images(planes[: channels.start]),
                weights[layer],
                bias[self.shape.outputs(alone)],
                self.images(planes[channels]),
                self.shape.geometry(layer),
                relu=True,
            )

    def backward(
        self,
        planes: Tensor,
        grads: Tensor,
        weights: Sequence[Tensor],
        gradients: Gradients,
        needs_input: bool,
    ) -> None:
        """Add the parameters' gradients; grads ends as the gradient by the input channels."""
        for layer in reversed(range(self.shape.depth)):
            alone = range(layer, layer + 1)
            channels, geometry = self.shape.channels(alone), self.shape.geometry(layer)
            output, grad_output = self.images(planes[channels]), self.images(grads[channels])
            if gradients.wants(alone):
                by_weight, by_bias = convolution.backward_weight(
                    self.images(planes[: channels.start]),
                    weights[layer].shape,
                    output,
                    grad_output,
                    geometry,
                )
                gradients.add(layer, self.shape.outputs(alone), by_weight, by_bias)
            self.add_to_sources(
                planes, grads, weights, layer, 0 if needs_input else self.shape.c_in
            )

    def add_to_sources(
        self, planes: Tensor, grads: Tensor, weights: Sequence[Tensor], layer: int, lowest: int
    ) -> None:
        """Add a layer's gradient to those of the channels from ``lowest`` that it reads."""
        channels = self.shape.channels(range(layer, layer + 1))
        if lowest == channels.start:
            return
        convolution.backward_input(
            weights[layer][:, lowest:],
            self.images(planes[channels]),
            self.images(grads[channels]),
            self.images(grads[lowest : channels.start]),
            self.shape.geometry(layer),
        )

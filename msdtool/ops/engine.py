"""What all engines of an MSD block share: its sizes, parameters and gradients, and their protocol.

An engine computes the hidden layers of an MSD network (Pelt & Sethian, PNAS 2018) and its final
1x1 layer, forward and backward, for one batch of images. All channels of the batch lie in one
buffer, the planes, which every engine arranges in its own way: `Engine.images` shows them as
[B, C, *space]. Which engine serves a tensor is decided in `msdtool.ops.engines`.

Shapes: B batch, C channels, *space two or three spatial axes (H, W or D, H, W).
"""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from msdtool.ops.checks import layer_dilations

WORKSPACE_BYTES = 64 * 2**20
"""What an engine takes beside planes and gradients, except where a single slice needs more."""


def channels_before(c_in: int, width: int, layer: int) -> int:
    """Number of channels that a layer (from 0) reads: the input's and those of earlier layers."""
    return c_in + width * layer


@dataclass(frozen=True)
class BlockShape:
    """Sizes of an MSD block and of the batch it is applied to.

    Attributes:
        c_in: input channels.
        width: channels per layer.
        dilations: one per layer.
        padding: border rule, one of `msdtool.border.PADDINGS`.
        batch: number of images.
        space: spatial shape of each image.
    """

    c_in: int
    width: int
    dilations: tuple[int, ...]
    padding: str
    batch: int
    space: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.dilations)

    @property
    def num_channels(self) -> int:
        """Channels of the input and of all layers."""
        return self.channels_before(self.depth)

    @property
    def num_taps(self) -> int:
        """Taps of a convolution, 3^n."""
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
        """Number of channels that a layer reads."""
        return channels_before(self.c_in, self.width, layer)

    def channels(self, layers: range) -> slice:
        """Channels that some layers write."""
        return slice(self.channels_before(layers.start), self.channels_before(layers.stop))

    def outputs(self, layers: range) -> slice:
        """The same channels, counted without those of the input: those of the biases."""
        return slice(self.width * layers.start, self.width * layers.stop)

    def part(self, layers: range) -> "BlockShape":
        """Some layers as a block whose input is all channels before them."""
        dilations = self.dilations[layers.start : layers.stop]
        return replace(self, c_in=self.channels_before(layers.start), dilations=dilations)


class Parameters(NamedTuple):
    """Parameters of a block and, unless they are None, of the final layer after it.

    Attributes:
        weights: per layer [width, c_in + width*i, 3, 3(, 3)].
        bias: [depth*width].
        final_weight: [c_out, c_in + width*depth, 1].
        final_bias: [c_out].
    """

    weights: Sequence[Tensor]
    bias: Tensor
    final_weight: Tensor | None = None
    final_bias: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """All that are there."""
        some = (self.bias, self.final_weight, self.final_bias, *self.weights)
        return [tensor for tensor in some if tensor is not None]

    def to(self, dtype: torch.dtype) -> "Parameters":
        """The parameters in a dtype, themselves if they have it."""
        if self.bias.dtype == dtype:
            return self
        return Parameters(
            [weight.to(dtype) for weight in self.weights],
            self.bias.to(dtype),
            None if self.final_weight is None else self.final_weight.to(dtype),
            None if self.final_bias is None else self.final_bias.to(dtype),
        )


def shape_of(
    size: Sequence[int], parameters: Parameters, dilations: Sequence[int], padding: str
) -> BlockShape:
    """Sizes of a block with these parameters on a batch.

    Args:
        size: of the batch, (B, c_in, *space).
        parameters: of the block.
        dilations: repeated from the start when there are fewer than layers.
        padding: border rule.
    """
    batch, c_in, *space = size
    weights = parameters.weights
    per_layer = layer_dilations(dilations, len(weights), space)
    return BlockShape(c_in, len(weights[0]), per_layer, padding, batch, tuple(space))


class Gradients:
    """Gradients with respect to the input and the parameters, None where not needed.

    Those of the parameters start as zeros, to which each image is added. Those of the weights are
    parts of one tensor, ``flat_weights``, with all layers in order, needed or not.

    Args:
        shape: sizes of the block and the batch.
        parameters: of the block and the final layer; the final bias is not used.
        needed: whether a gradient is needed, for the input, the bias, the final layer's weight and
            bias, and each weight.
        dtype: of the gradients with respect to the parameters.
    """

    def __init__(
        self,
        shape: BlockShape,
        parameters: Parameters,
        needed: Sequence[bool],
        dtype: torch.dtype,
    ) -> None:
        def zeros(size: Sequence[int], needed: bool) -> Tensor | None:
            return parameters.bias.new_zeros(size, dtype=dtype) if needed else None

        weights, bias, final_weight, _ = parameters
        needs_input, needs_bias, needs_final, needs_final_bias, *needs_weights = needed
        size = (shape.batch, shape.c_in, *shape.space)
        self.input = bias.new_empty(size) if needs_input else None
        self.bias = zeros(bias.shape, needs_bias)
        self.final_weight = self.final_bias = None
        if final_weight is not None:
            self.final_weight = zeros(final_weight.shape, needs_final)
            self.final_bias = zeros(final_weight.shape[:1], needs_final_bias)
        sizes = [weight.numel() for weight in weights]
        self.flat_weights = zeros((sum(sizes),), any(needs_weights))
        self.weights: list[Tensor | None] = [None] * len(weights)
        if self.flat_weights is not None:
            self.weights = [
                part.view(weight.shape) if needed else None
                for part, weight, needed in zip(
                    self.flat_weights.split(sizes), weights, needs_weights, strict=True
                )
            ]

    def wants(self, layers: range) -> bool:
        """Whether a gradient is needed with respect to any parameter of these layers."""
        return self.bias is not None or any(self.weights[layer] is not None for layer in layers)

    def add(self, layer: int, outputs: slice, weight: Tensor, bias: Tensor) -> None:
        """Add the gradients of one layer."""
        target = self.weights[layer]
        if target is not None:
            target.add_(weight.view_as(target))
        if self.bias is not None:
            self.bias[outputs] += bias

    def to(self, dtype: torch.dtype) -> list[Tensor | None]:
        """All of them, in the order of ``needed``."""
        found = (self.input, self.bias, self.final_weight, self.final_bias, *self.weights)
        return [None if grad is None else grad.to(dtype) for grad in found]


class Engine(ABC):
    """Computes one MSD block and its final layer for a batch.

    Args:
        shape: sizes of the block and the batch.
        like: has the dtype and the device of the tensors.

    Raises:
        ValueError: the engine does not serve this device.
    """

    pixels_at_once: ClassVar[int]
    """Pixels of images that inference computes together, in one buffer; at least one image."""

    max_slices: int = sys.maxsize
    """Slices, indices of the outermost axis, that a buffer may have."""

    def __init__(self, shape: BlockShape, like: Tensor) -> None:  # noqa: ARG002 - for most engines
        self.shape = shape

    @property
    @abstractmethod
    def slice_bytes(self) -> int:
        """Bytes of all channels in one slice of an image."""

    @property
    @abstractmethod
    def workspace_bytes(self) -> int:
        """Bytes that the forward pass takes beside the planes, at most."""

    @abstractmethod
    def new_planes(self, like: Tensor) -> Tensor:
        """Uninitialised buffer of all channels, with the dtype and the device of ``like``."""

    @abstractmethod
    def images(self, planes: Tensor) -> Tensor:
        """View planes as [B, C, *space]."""

    @abstractmethod
    def forward(self, planes: Tensor, parameters: Parameters) -> None:
        """Compute all channels of planes after the first c_in, which hold the input."""

    @abstractmethod
    def forward_final(self, planes: Tensor, parameters: Parameters, output: Tensor) -> None:
        """Write the final layer's output to ``output`` [B, c_out, *space], contiguous."""

    @abstractmethod
    def backward(
        self, planes: Tensor, parameters: Parameters, grad_output: Tensor, gradients: Gradients
    ) -> None:
        """Add to the gradients, and set that of the input.

        Args:
            planes: as `forward` left them.
            parameters: of the block and, if there was one, the final layer, its bias not used.
            grad_output: gradient with respect to the final layer's output or, without a final
                layer, to all channels; [B, c_out or C, *space].
            gradients: those that are needed.
        """

"""Mixed-Scale Dense networks (Pelt & Sethian, PNAS 115(2), 2018).

Shapes: B batch, C channels, *space the two or three spatial axes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from msdtool import ops
from msdtool.ops.checks import check_network
from msdtool.ops.engine import channels_before
from msdtool.ops.out_of_core.module import SlicedArray

DILATIONS = tuple(range(1, 11))


def units_in_front(c_in: int, width: int, layer_depth: int) -> int:
    """The original's name for `msdtool.ops.engine.channels_before`."""
    return channels_before(c_in, width, layer_depth)


def init_convolution_weights(
    conv_weight: Tensor, c_in: int, c_out: int, width: int, depth: int
) -> None:
    """Fill a hidden layer's weight in place: normal, std sqrt(2/n_c) (PNAS 2018, p. 256).

    n_c = 3^n * (c_in + width*(depth - 1)) + c_out is the number of connections of the last layer.

    Args:
        conv_weight: [width, preceding channels, 3, 3(, 3)].
        c_in: input channels of the network.
        c_out: output channels of the network.
        width: channels per hidden layer.
        depth: hidden layers.
    """
    taps = math.prod(conv_weight.shape[2:])
    n_c = taps * (c_in + width * (depth - 1)) + c_out
    with torch.no_grad():
        conv_weight.normal_(0, math.sqrt(2 / n_c))


def msdblock2d(input: Tensor, dilations: Sequence[int], bias: Tensor, *weights: Tensor) -> Tensor:
    """Run the hidden layers of an MSD network on images, with symmetric padding.

    Args:
        input: [B, c_in, H, W].
        dilations: one per layer; a shorter list is repeated cyclically.
        bias: [depth*width].
        weights: per layer [width, c_in + width*i, 3, 3].

    Returns:
        [B, c_in + width*depth, H, W]; see `msdtool.ops.msd_block`.
    """
    return ops.msd_block(input, weights, bias, dilations)


class _MSDBlock(nn.Module):
    """The hidden layers; the number of spatial axes is set by the two classes below."""

    ndim: int

    def __init__(
        self,
        in_channels: int,
        dilations: Sequence[int],
        width: int = 1,
        padding: str = "symmetric",
    ) -> None:
        super().__init__()
        depth = len(dilations)
        check_network(depth, width, dilations, self.ndim, padding, in_channels=in_channels)
        self.in_channels = in_channels
        self.dilations = list(dilations)
        self.width = width
        self.padding = padding
        self.depth = depth
        self.bias = nn.Parameter(torch.zeros(self.depth * width))
        for layer in range(self.depth):
            channels = channels_before(in_channels, width, layer)
            weight = torch.empty(width, channels, *(3,) * self.ndim)
            init_convolution_weights(weight, in_channels, 1, width, self.depth)
            self.register_parameter(f"weight{layer}", nn.Parameter(weight))

    @property
    def weights(self) -> list[Tensor]:
        """The weight of each layer, [width, in_channels + width*i, 3, 3(, 3)]."""
        return [getattr(self, f"weight{layer}") for layer in range(self.depth)]

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in_channels, *space] to [B, in_channels + depth*width, *space]."""
        return ops.msd_block(input, self.weights, self.bias, self.dilations, self.padding)


class MSDBlock2d(_MSDBlock):
    """Densely connected dilated convolutions of images.

    Args:
        in_channels: input channels.
        dilations: one per layer.
        width: channels per layer.
        padding: "symmetric", "reflect" or "zeros".

    Raises:
        ValueError: a number is not positive, or the padding is another one.
    """

    ndim = 2


class MSDBlock3d(_MSDBlock):
    """Densely connected dilated convolutions of volumes; see `MSDBlock2d`."""

    ndim = 3


class MSDFinalLayer(nn.Module):
    """The 1x1 layer over all channels; its weight and bias are initially zero.

    Args:
        c_in: channels of the block's output.
        c_out: output channels.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(c_in, c_out, 1)
        nn.init.zeros_(self.linear.weight)
        assert self.linear.bias is not None
        nn.init.zeros_(self.linear.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, c_in, *space] to [B, c_out, *space]."""
        output: Tensor = self.linear(input.flatten(2))
        return output.unflatten(2, input.shape[2:])


class MSDModule(nn.Module):
    """A Mixed-Scale Dense network.

    Args:
        c_in: input channels.
        c_out: output channels.
        depth: hidden layers.
        width: channels per hidden layer.
        dilations: one per layer; a shorter list is repeated cyclically. A good alternative to the
            default is [1, 2, 4, 8].
        ndim: number of spatial axes, 2 or 3.
        padding: "symmetric", "reflect" or "zeros".

    State-dict names: ``msd_block.bias`` [depth*width],
    ``msd_block.weight{i}`` [width, c_in + width*i, 3, 3(, 3)],
    ``final_layer.linear.weight`` [c_out, c_in + width*depth, 1],
    ``final_layer.linear.bias`` [c_out].

    Raises:
        ValueError: a number is not positive, or ndim or padding is another one.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        dilations: Sequence[int] = DILATIONS,
        ndim: int = 2,
        padding: str = "symmetric",
    ) -> None:
        super().__init__()
        check_network(depth, width, dilations, ndim, padding, c_in=c_in, c_out=c_out)
        self.c_in, self.c_out = c_in, c_out
        self.depth, self.width = depth, width
        self.dilations = [dilations[layer % len(dilations)] for layer in range(depth)]
        block = {2: MSDBlock2d, 3: MSDBlock3d}[ndim]
        self.msd_block = block(c_in, self.dilations, width, padding)
        for weight in self.msd_block.weights:
            init_convolution_weights(weight, c_in, c_out, width, depth)
        self.final_layer = MSDFinalLayer(channels_before(c_in, width, depth), c_out)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, c_in, *space] to [B, c_out, *space]."""
        assert self.final_layer.linear.bias is not None
        return ops.msd_module(
            input,
            self.msd_block.weights,
            self.msd_block.bias,
            self.final_layer.linear.weight,
            self.final_layer.linear.bias,
            self.dilations,
            self.msd_block.padding,
        )

    def stream(
        self, input: SlicedArray, output: SlicedArray, *, memory_bytes: int, **options: Any
    ) -> None:
        """Map one image [c_in, *space] to [c_out, *space] in strips; see `msd_module_streamed`."""
        assert self.final_layer.linear.bias is not None
        ops.msd_module_streamed(
            input,
            self.msd_block.weights,
            self.msd_block.bias,
            self.final_layer.linear.weight,
            self.final_layer.linear.bias,
            self.dilations,
            self.msd_block.padding,
            output=output,
            memory_bytes=memory_bytes,
            **options,
        )


class MSDModule2d(MSDModule):
    """An `MSDModule` for images, with the arguments of the original."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        depth: int,
        width: int,
        dilations: Sequence[int] = DILATIONS,
    ) -> None:
        super().__init__(c_in, c_out, depth, width, dilations, ndim=2)

"""Modules that share one buffer of layers; what stitching is, `msdtool.ops.stitch` tells.

A network of `MSDLayerModule` computes the same as `MSDBlock2d`, layer by layer:

>>> buffer = StitchBuffer()
>>> layers = [MSDLayerModule(buffer, 1, layer, 1, dilation=layer + 1) for layer in range(3)]
>>> network = nn.Sequential(StitchCopyModule(buffer, 0), *layers)
>>> input = torch.ones(1, 1, 8, 8)
>>> buffer.like_(input, (1, 1 + 3, 8, 8))
>>> network(input).shape
torch.Size([1, 4, 8, 8])
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msdtool.nn.msd import units_in_front
from msdtool.ops.inplace import conv_relu2dInPlace
from msdtool.ops.stitch import stitchCopy, stitchLazy


class StitchBuffer:
    """Holds the layer buffer ``L`` and the gradient buffer ``G``, both empty until `like_`."""

    def __init__(self) -> None:
        self.L = torch.zeros(0)
        self.G = torch.zeros(0)

    def like_(self, tensor: Tensor, new_shape: Sequence[int]) -> None:
        """Give ``L`` and ``G`` the shape ``new_shape`` and the dtype and device of ``tensor``.

        Buffers that match already stay as they are, contents included; others are replaced by
        zeros. Graphs made with the replaced ones keep those.
        """
        expected = (torch.Size(new_shape), tensor.dtype, tensor.device)
        if (self.L.shape, self.L.dtype, self.L.device) != expected:
            # Buffers made in inference mode would be of no use for training later.
            with torch.inference_mode(False):
                self.L = torch.zeros(new_shape, dtype=tensor.dtype, device=tensor.device)
                self.G = torch.zeros_like(self.L)


class StitchCopyModule(nn.Module):
    """Copy the input into the buffer, and return it with all channels in front of it.

    Args:
        buffer: of the network; shared by its modules.
        i: channel at which the input goes.
    """

    def __init__(self, buffer: StitchBuffer, i: int) -> None:
        super().__init__()
        self.buffer = buffer
        self.i = i

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, c, *space] to the buffer's first i + c channels."""
        return stitchCopy(input, self.buffer.L, self.buffer.G, self.i)


class StitchLazyModule(nn.Module):
    """Return the input, which lies in the buffer already, with all channels in front of it.

    Args:
        buffer: of the network; shared by its modules.
        i: channel at which the input lies.
    """

    def __init__(self, buffer: StitchBuffer, i: int) -> None:
        super().__init__()
        self.buffer = buffer
        self.i = i

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, c, *space] to the buffer's first i + c channels."""
        return stitchLazy(input, self.buffer.L, self.buffer.G, self.i)


class MSDLayerModule(nn.Module):
    """One hidden layer of an MSD network: in-place convolution, ReLU and lazy stitch.

    The network that it is part of sizes the buffer, stitches its input to channel 0 and
    initialises the parameters, which are zero at first.

    Args:
        buffer: of the network; shared by its layers.
        c_in: input channels of the network.
        layer_depth: this layer's number, from 0.
        width: channels per layer.
        dilation: of this layer's convolution.

    State-dict names: ``weight`` [width, c_in + width*layer_depth, 3, 3], ``bias`` [width].
    """

    def __init__(
        self, buffer: StitchBuffer, c_in: int, layer_depth: int, width: int, dilation: int
    ) -> None:
        super().__init__()
        self.buffer = buffer
        self.width = width
        self.dilation = dilation
        self.in_front = units_in_front(c_in, width, layer_depth)
        self.weight = nn.Parameter(torch.zeros(width, self.in_front, 3, 3))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, input: Tensor) -> Tensor:
        """Map the buffer's first channels [B, c_in + width*layer_depth, H, W] to ``width`` more."""
        layers, grads = self.buffer.L, self.buffer.G
        if input.data_ptr() != layers.data_ptr():
            raise ValueError(
                "input does not lie in the layer's buffer; pass the network's input through "
                "StitchCopyModule(buffer, 0), and its result from layer to layer"
            )
        if layers.shape[1] < self.in_front + self.width:
            raise ValueError(
                f"the buffer has {layers.shape[1]} channels; this layer writes channels "
                f"{self.in_front} to {self.in_front + self.width - 1}. Enlarge it with buffer.like_"
            )
        # .data has a version counter of its own: the channels in front, which backward needs, are
        # not modified by writing this layer's.
        output = layers.data.narrow(1, self.in_front, self.width)
        output = conv_relu2dInPlace(input, self.weight, self.bias, output, 1, self.dilation)
        return stitchLazy(output, layers, grads, self.in_front)

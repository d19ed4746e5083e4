"""Modules that share one buffer of layers; `msdtool.ops.layers.stitch` explains stitching.

A network of `MSDLayerModule` computes the same as `MSDBlock2d`, layer by layer:

>>> buffer = StitchBuffer()
>>> layers = [MSDLayerModule(buffer, 1, layer, 1, dilation=layer + 1) for layer in range(3)]
>>> network = nn.Sequential(StitchCopyModule(buffer, 0), *layers)
>>> input = torch.ones(1, 1, 8, 8)
>>> buffer.like_(input, (1, 1 + 3, 8, 8))
>>> network(input).shape
torch.Size([1, 4, 8, 8])
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from msdtool.ops.engine import channels_before
from msdtool.ops.layers.inplace import conv_relu2dInPlace
from msdtool.ops.layers.kept import in_use, writing
from msdtool.ops.layers.stitch import stitchCopy, stitchLazy


class StitchBuffer:
    """Holds the layer buffer ``L`` and the gradient buffer ``G``, both empty until `like_`."""

    def __init__(self) -> None:
        self.L = torch.zeros(0)
        self.G = torch.zeros(0)

    def like_(self, tensor: Tensor, new_shape: Sequence[int]) -> None:
        """Give ``L`` and ``G`` the shape ``new_shape`` and the dtype and device of ``tensor``.

        Call it before each pass. Buffers that already match are kept, contents included; others
        are replaced by zeros, and graphs recorded with the replaced ones keep them alive. ``L`` is
        replaced as well while an earlier pass has not gone backward and still needs its contents:
        take slices of ``L`` after this call.
        """
        expected = (torch.Size(new_shape), tensor.dtype, tensor.device)
        fits = (self.L.shape, self.L.dtype, self.L.device) == expected
        if fits and not in_use(self.L):
            return
        # Buffers made in inference mode could not be used for training later.
        with torch.inference_mode(False):
            self.L = torch.zeros(new_shape, dtype=tensor.dtype, device=tensor.device)
            if not fits:
                self.G = torch.zeros_like(self.L)

    def zero_(self) -> None:
        """Set ``L`` and ``G`` to zero, in place."""
        with torch.no_grad():
            for buffer in (self.L, self.G):
                with writing(buffer):
                    buffer.zero_()


class _StitchModule(nn.Module):
    stitch: Callable[..., Tensor]

    def __init__(self, buffer: StitchBuffer, i: int) -> None:
        super().__init__()
        self.buffer = buffer
        self.i = i

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, c, *space] to the buffer's first i + c channels."""
        return self.stitch(input, self.buffer.L, self.buffer.G, self.i)


class StitchCopyModule(_StitchModule):
    """Copy the input into the buffer, and return it with all preceding channels.

    Args:
        buffer: of the network; shared by its modules.
        i: channel at which the input is stored.
    """

    stitch = staticmethod(stitchCopy)


class StitchLazyModule(_StitchModule):
    """Return the input, which lies in the buffer already, with all preceding channels.

    Args:
        buffer: of the network; shared by its modules.
        i: channel at which the input lies.
    """

    stitch = staticmethod(stitchLazy)


class MSDLayerModule(nn.Module):
    """One hidden layer of an MSD network: in-place convolution, ReLU and lazy stitch.

    The enclosing network sizes the buffer, stitches its input to channel 0 and initialises the
    parameters, which are initially zero.

    Args:
        buffer: of the network; shared by its layers.
        c_in: input channels of the network.
        layer_depth: index of this layer, from 0.
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
        self.preceding = channels_before(c_in, width, layer_depth)
        self.weight = nn.Parameter(torch.zeros(width, self.preceding, 3, 3))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, input: Tensor) -> Tensor:
        """Map the buffer's first channels [B, c_in + width*layer_depth, H, W] to ``width`` more."""
        layers, grads = self.buffer.L, self.buffer.G
        if input.data_ptr() != layers.data_ptr():
            raise ValueError(
                "input does not lie in the layer's buffer; pass the network's input through "
                "StitchCopyModule(buffer, 0), and its output from layer to layer"
            )
        if layers.shape[1] < self.preceding + self.width:
            raise ValueError(
                f"the buffer has {layers.shape[1]} channels; this layer writes channels "
                f"{self.preceding} to {self.preceding + self.width - 1}. Enlarge it with "
                "buffer.like_"
            )
        # .data has its own version counter: writing this layer's channels does not mark the
        # preceding ones, which backward needs, as modified.
        output = layers.data.narrow(1, self.preceding, self.width)
        output = conv_relu2dInPlace(input, self.weight, self.bias, output, 1, self.dilation)
        return stitchLazy(output, layers, grads, self.preceding)

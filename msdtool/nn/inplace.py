"""Convolution and ReLU as modules that write into memory provided by the caller.

`msdtool.ops.layers.inplace` explains how ``output`` may share memory with other tensors.
"""

from torch import Tensor, nn

from msdtool.ops.layers.inplace import ReLUInplaceFunction, conv2dInPlace, conv_relu2dInPlace


class _InPlaceConvolution(nn.Module):
    """The parameters of an in-place convolution, initialised like those of `torch.nn.Conv2d`."""

    def __init__(
        self,
        output: Tensor | None,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.output = output
        self.dilation = dilation
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size)
        assert convolution.bias is not None
        self.weight = convolution.weight
        self.bias = convolution.bias

    def _memory(self) -> Tensor:
        if self.output is None:
            raise ValueError("output is None; assign the memory to write to")
        return self.output


class Conv2dInPlaceModule(_InPlaceConvolution):
    """Convolve into ``output``, with symmetric padding; see `conv2dInPlace`.

    Args:
        output: [B, out_channels, H, W]; neither a parameter nor part of the state dict. Assign a
            new tensor to the attribute for images of another size or on another device; it may be
            None until the first call.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd.
        dilation: pixels between taps.

    State-dict names: ``weight`` [out_channels, in_channels, kernel_size, kernel_size],
    ``bias`` [out_channels].
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H, W], which is ``output``'s memory."""
        return conv2dInPlace(input, self.weight, self.bias, self._memory(), 1, self.dilation)


class ConvRelu2dInPlaceModule(_InPlaceConvolution):
    """Write the ReLU of a convolution into ``output``; arguments as in `Conv2dInPlaceModule`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H, W], which is ``output``'s memory."""
        return conv_relu2dInPlace(input, self.weight, self.bias, self._memory(), 1, self.dilation)


class ReLUInplaceModule(nn.Module):
    """``max(input, 0)``, written over the input."""

    def forward(self, input: Tensor) -> Tensor:
        """Map a tensor of any shape to itself."""
        return ReLUInplaceFunction.apply(input)

"""Convolutions of time series; those over time remember earlier frames.

Kernels are causal: the last of a kernel's T taps is the present frame. In space a kernel of k taps
is centred (an even one has its extra tap at the start), and frames keep their size.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msdtool.nn.streaming.arguments import as_kernel, check_choice, per_axis
from msdtool.nn.streaming.layer import Layer
from msdtool.nn.streaming.series import INITIAL_HISTORIES, prepend_history

WEIGHTS = ("zeros", "identity", "random")
PADDING_MODES = ("replicate", "reflect", "zeros")


class _Convolution(Layer):
    """The base of convolutions over one, two or three of the axes T, X, Y.

    Subclasses define which axes they cover; inside, every kernel is [out, in / groups, T, X, Y].
    """

    dim = 5
    axes: Sequence[int]  # of T, X, Y
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        kernel_size: int | Sequence[int] = 1,
        bias: bool = True,
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        *,
        time_pad: bool = True,
        autopad: bool = True,
        initial: str = "first_frame",
        padding_mode: str = "replicate",
        weights: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice("initial", initial, INITIAL_HISTORIES)
        check_choice("padding_mode", padding_mode, PADDING_MODES)
        for name, number in {"in_channels": in_channels, "out_channels": out_channels}.items():
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} is {number}; expected a positive number")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"in_channels {in_channels} and out_channels {out_channels} must both be "
                f"divisible by groups {groups}"
            )
        size = per_axis("kernel_size", kernel_size, self.axes)
        self.stride = per_axis("stride", stride, self.axes)
        self.dilation = per_axis("dilation", dilation, self.axes)
        if self.stride[0] != 1:
            raise ValueError(f"the stride in time is {self.stride[0]}; expected 1")
        self.groups = groups
        self.time_pad, self.autopad = time_pad, autopad
        self.initial, self.padding_mode = initial, padding_mode
        shape = (out_channels, in_channels // groups, *(size[axis] for axis in self.axes))
        self.weight = nn.Parameter(torch.zeros(shape, device=device, dtype=dtype))
        self.register_parameter(
            "bias", nn.Parameter(self.weight.new_zeros(out_channels)) if bias else None
        )
        self.reset_parameters(weights)
        self.history: Tensor | None
        self.register_state("history", None)
        self.num_frames: int
        self.register_state("num_frames", 0)

    def reset_parameters(self, weights: str) -> None:
        """Reinitialise weight and bias; see ``weights`` of `Conv3d`.

        Raises:
            ValueError: another choice.
        """
        check_choice("weights", weights, WEIGHTS)
        if weights == "random":
            bound = self.weight[0].numel() ** -0.5
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -bound, bound)
            return
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        if weights == "identity":
            kernel = self.kernel.data
            x, y = (size // 2 for size in kernel.shape[3:])
            per_group = self.out_channels // self.groups
            for channel in range(self.out_channels):
                kernel[channel, channel % per_group % self.weight.shape[1], -1, x, y] = 1

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.weight.shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.weight.shape[0]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Number of taps along each axis that the kernel covers."""
        return tuple(self.weight.shape[2:])

    @property
    def kernel(self) -> Tensor:
        """The weight as [out, in / groups, T, X, Y]."""
        shape = [1, 1, 1]
        for axis, size in zip(self.axes, self.weight.shape[2:], strict=True):
            shape[axis] = size
        return self.weight.view(*self.weight.shape[:2], *shape)

    @property
    def filter_length(self) -> int:
        """Number of frames before the present one that the kernel reads."""
        return self.dilation[0] * (self.kernel.shape[2] - 1)

    @property
    def kernel_padding(self) -> tuple[int, ...]:
        """Pixels that `torch.nn.functional.pad` adds before and after, in Y, X and time."""
        padding = []
        for axis in (2, 1):
            size, dilation = self.kernel.shape[2 + axis], self.dilation[axis]
            padding += [dilation * (size // 2), dilation * (size - size // 2 - 1)]
        return (*padding, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map a piece [B, in_channels, T, X, Y] to [B, out_channels, T, X', Y'].

        With ``time_pad=False`` the first `filter_length` frames of the series are left out.

        Raises:
            ValueError: the input has other channels, or another shape than the previous piece.
        """
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"input has shape {tuple(x.shape)}; expected {self.in_channels} channels"
            )
        longer, history = prepend_history(x, self.history, self.filter_length, self.initial)
        if self.autopad:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            longer = F.pad(longer, self.kernel_padding, mode)
        output = F.conv3d(
            longer, self.kernel, self.bias, self.stride, 0, self.dilation, self.groups
        )
        incomplete = max(0, self.filter_length - self.num_frames)
        # Only now, so that a piece that failed leaves the state unchanged.
        self.history, self.num_frames = history, self.num_frames + x.shape[2]
        return output if self.time_pad else output[:, :, incomplete:]

    def set_weight(
        self, w: Any, normalize: bool = False, preserve_channels: bool = False, flip: bool = True
    ) -> None:
        """Set the kernel.

        Args:
            w: a number that fills the present kernel; or an array of 1 axis (time), 2 (X, Y), 3
                (T, X, Y) or 5 (out, in / groups, T, X, Y), which also sets the kernel size.
            normalize: divide by the sum of all weights.
            preserve_channels: use the kernel for every pair of channels; otherwise a kernel of 1, 2
                or 3 axes reduces the layer to a single input and output channel.
            flip: reverse time and space, so that the impulse response is ``w``, not its mirror
                image.

        Raises:
            ValueError: ``w`` has other axes, or does not fit the axes or groups of this layer.
        """
        if np.ndim(w) == 0:
            kernel = torch.full_like(self.kernel, float(w))
        else:
            kernel = as_kernel(torch.as_tensor(w).to(self.weight))
            if flip:
                kernel = kernel.flip(2, 3, 4)
            if preserve_channels and np.ndim(w) != 5:
                kernel = kernel.repeat(*self.weight.shape[:2], 1, 1, 1)
        if normalize:
            kernel = kernel / kernel.sum()
        self._replace(kernel)

    def _replace(self, kernel: Tensor) -> None:
        """Adopt a kernel [out, in / groups, T, X, Y] of any size."""
        size = kernel.shape[2:]
        if any(size[axis] != 1 for axis in range(3) if axis not in self.axes):
            raise ValueError(f"a kernel of {tuple(size)} taps in (T, X, Y) does not fit {self}")
        if len(kernel) % self.groups:
            raise ValueError(
                f"{len(kernel)} output channels are not divisible by groups {self.groups}; "
                "pass preserve_channels=True, or a kernel with all channels"
            )
        length = self.filter_length
        channels = self.in_channels
        shape = (*kernel.shape[:2], *(size[axis] for axis in self.axes))
        self.weight.data = kernel.detach().reshape(shape).clone()
        if self.bias is not None and len(self.bias) != len(kernel):
            self.bias.data = self.bias.new_zeros(len(kernel))
        if (length, channels) != (self.filter_length, self.in_channels):
            self.clear_state()

    def extra_repr(self) -> str:
        """Channels and kernel size."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


class Conv3d(_Convolution):
    """A convolution over time and space that remembers earlier frames.

    The output has as many frames as the input, of the same size. The first frame of a series is
    treated as if it had always been there. Gradients do not reach remembered frames.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: taps in (T, X, Y), or one number for all.
        bias: add a bias.
        stride, dilation: per axis or one number; the stride in time must be 1.
        groups: number of groups of channels that are not connected.
        time_pad: False leaves out the first frames of a series, which need earlier ones.
        autopad: pad in space so that frames keep their size.
        initial: what precedes the first frame: "first_frame" (repeated) or "zeros".
        padding_mode: values beyond the frames' borders: "replicate", "reflect" or "zeros".
        weights: initially "zeros", as in the original; "identity", which copies the input's
            channels in turn; or "random", as torch draws them. Do not use "zeros" before a network
            whose last layer is also initially zero, such as an MSD network: it would never train.

    State-dict names: ``weight`` [out_channels, in_channels / groups, T, X, Y], ``bias``.

    Raises:
        ValueError: an argument is none of these.
    """

    axes = (0, 1, 2)


class Conv2d(_Convolution):
    """A convolution of each frame on its own; arguments as for `Conv3d`, sizes in (X, Y)."""

    axes = (1, 2)


class Conv1d(_Convolution):
    """A convolution of each pixel over time; arguments as for `Conv3d`, sizes in (T)."""

    axes = (0,)


class MyMemoryConv(Conv3d):
    """The worked example of the original's page: `Conv3d` with torch's default initial weights.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_dim: taps in (T, X, Y).
        bias: add a bias.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        kernel_dim: Sequence[int] = (1, 1, 1),
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_dim, bias, weights="random")

"""Layers for time series without a kernel, or with a kernel of fixed form."""

from collections.abc import Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from msdtool.nn.streaming.arguments import check_choice
from msdtool.nn.streaming.convolution import Conv3d
from msdtool.nn.streaming.layer import Layer
from msdtool.nn.streaming.series import INITIAL_HISTORIES, prepend_history


class TimePadding(Layer):
    """Prepends earlier frames to each piece, so the output has more frames than the input.

    Args:
        length: number of frames.
        initial: what precedes the first frame of a series: "first_frame" (copies of it) or "zeros".

    Raises:
        ValueError: an argument is none of these.
    """

    dim = 5

    def __init__(self, length: int = 0, initial: str = "first_frame") -> None:
        super().__init__()
        if length < 0:
            raise ValueError(f"length is {length}; expected 0 or more")
        check_choice("initial", initial, INITIAL_HISTORIES)
        self.length = length
        self.initial = initial
        self.history: Tensor | None
        self.register_state("history", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to [B, C, length + T, X, Y]."""
        longer, self.history = prepend_history(x, self.history, self.length, self.initial)
        return longer


class Delay(Layer):
    """Outputs each frame ``delay`` frames later.

    Args:
        delay: number of frames; as many frames of zeros come first.
        length: number of frames to remember, at least ``delay``; None for ``delay``.

    Raises:
        ValueError: delay or length is not one of these.
    """

    dim = 5

    def __init__(self, delay: int = 0, length: int | None = None) -> None:
        super().__init__()
        length = delay if length is None else length
        if not 0 <= delay <= length:
            raise ValueError(f"delay is {delay}; expected 0 to length, which is {length}")
        self.delay = delay
        self.pad = TimePadding(length, "zeros")

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to the same shape."""
        longer: Tensor = self.pad(x)
        return longer.narrow(2, self.pad.length - self.delay, x.shape[2])


class LN(Conv3d):
    """A linear filter and a rectifier: `Conv3d` with negative outputs set to 0.

    Takes the arguments of `Conv3d`, or those of the original: ``LN(kernel_dim=(1, 1, 1),
    bias=False)`` with the taps in (T, X, Y), by position or name, for one channel.
    """

    @wraps(Conv3d.__init__)  # type: ignore[misc]  # a constructor, decorated
    def __init__(self, *arguments: Any, **options: Any) -> None:
        if "kernel_dim" in options or (arguments and isinstance(arguments[0], Sequence)):
            arguments, options = (), _original_arguments(*arguments, **options)
        super().__init__(*arguments, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, T, X, Y] to [B, out_channels, T, X', Y']."""
        return super().forward(x).clamp(min=0)


def _original_arguments(
    kernel_dim: Sequence[int], bias: bool = False, **options: Any
) -> dict[str, Any]:
    return {"kernel_size": kernel_dim, "bias": bias, **options}


class NLRectify(Layer):
    """Sets negative values to 0."""

    dim = 5

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to the same shape."""
        return x.clamp(min=0)


class NLSquare(Layer):
    """Squares each value."""

    dim = 5

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to the same shape."""
        return x.square()


class TemporalLowPassFilterRecursive(Layer):
    """An exponential low-pass filter in time, computed frame by frame.

    y_i = (1 + e) x_i + e y_{i-1} with e = exp(-1 / (1000 tau)) and y = 0 before the series; the
    output is y / (2000 tau).

    Args:
        tau: time constant in seconds, at 1000 frames per second.
        requires_grad: train it.

    State-dict names: ``tau`` [].
    """

    dim = 5

    def __init__(self, tau: float = 0.01, requires_grad: bool = True) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.tensor(tau), requires_grad)
        self.last: Tensor | None
        self.register_state("last", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to the same shape."""
        e = torch.exp(-1 / (1000 * self.tau))
        y = torch.zeros_like(x[:, :, 0]) if self.last is None else self.last.to(x)
        frames = []
        for frame in x.unbind(2):
            y = (1 + e) * frame + e * y
            frames.append(y)
        self.last = y.detach().clone()
        return torch.stack(frames, 2) / (2000 * self.tau)

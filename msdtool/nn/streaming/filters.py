"""Layers of time series without a kernel, or with one of a fixed form."""

import torch
from torch import Tensor, nn

from msdtool.nn.streaming.convolution import Conv3d
from msdtool.nn.streaming.layer import Layer
from msdtool.nn.streaming.series import prepend_history


class TimePadding(Layer):
    """Puts the frames seen before in front of each piece, so it gives more frames than it gets.

    Args:
        length: how many; before the first frame of a series, that frame is repeated.
    """

    dim = 5

    def __init__(self, length: int = 0) -> None:
        super().__init__()
        if length < 0:
            raise ValueError(f"length is {length}; expected 0 or more")
        self.length = length
        self.history: Tensor | None
        self.register_state("history", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to [B, C, length + T, X, Y]."""
        longer, self.history = prepend_history(x, self.history, self.length)
        return longer


class Delay(Layer):
    """Gives each frame ``delay`` frames later.

    Args:
        delay: frames; before the first frame of a series, that frame is repeated.
        length: how many frames to remember, at least ``delay``; None: as many.
    """

    dim = 5

    def __init__(self, delay: int = 0, length: int | None = None) -> None:
        super().__init__()
        length = delay if length is None else length
        if not 0 <= delay <= length:
            raise ValueError(f"delay is {delay}; expected 0 to length, which is {length}")
        self.delay = delay
        self.pad = TimePadding(length)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to the same shape."""
        longer: Tensor = self.pad(x)
        return longer.narrow(2, self.pad.length - self.delay, x.shape[2])


class LN(Conv3d):
    """A linear filter and a rectifier: `Conv3d`, whose negative values become 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, T, X, Y] to [B, out_channels, T, X', Y']."""
        return super().forward(x).clamp(min=0)


class NLRectify(Layer):
    """Negative values become 0."""

    dim = 5

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to the same shape."""
        return x.clamp(min=0)


class NLSquare(Layer):
    """The square of each value."""

    dim = 5

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, X, Y] to the same shape."""
        return x.square()


class TemporalLowPassFilterRecursive(Layer):
    """An exponential low-pass filter in time, computed from frame to frame.

    y_i = (1 + e) x_i + e y_{i-1} with e = exp(-1 / (1000 tau)) and y = 0 before the series; the
    output is y / (2000 tau).

    Args:
        tau: time constant in seconds, at 1000 frames a second.
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

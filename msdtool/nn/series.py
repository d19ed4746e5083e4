"""Networks applied to a series frame by frame, linked only by temporal layers."""

from typing import Any

import torch
from torch import Tensor, nn

from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.streaming.frames import InFrames, to_frames, to_series
from msdtool.nn.streaming.series import pieces


class SeriesNetwork(ScaledNetwork):
    """A network of images applied to series of frames: time series, or the slices of volumes.

    Only the network's temporal layers (`InFrames`) link the frames, each to earlier ones, so a
    series can come in pieces of any length. Where no gradient is recorded, the network processes
    ``dt`` frames at a time, and its memory use depends on ``dt``, not on the length of the series.

    Args:
        msd: the network of images.
        c_in: input channels.
        c_out: output channels.
        axis: which of the three axes of a series is time.
        dt: frames per piece.
        stem: layers before the network, or None.
        head: layers after the network, or None.

    State-dict names: those of a `ScaledNetwork` of images.
    """

    def __init__(
        self,
        msd: nn.Module,
        c_in: int,
        c_out: int,
        axis: int,
        dt: int,
        *,
        stem: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(msd, c_in, c_out, ndim=2, stem=stem, head=head)
        self.axis, self.dt = axis, dt

    def forward(self, input: Tensor) -> Tensor:
        """Map whole series [B, c_in, *axes] to [B, c_out, *axes].

        Raises:
            ValueError: the input has another number of channels.
        """
        series = input.movedim(2 + self.axis, 2)
        dt = None if torch.is_grad_enabled() else self.dt
        self.clear_state()
        outputs = [self._advance(piece) for piece in pieces(series, dt)]
        self.clear_state()
        return torch.cat(outputs, 2).movedim(2, 2 + self.axis)

    def advance(self, piece: Tensor) -> Tensor:
        """Continue a series: map its next frames [B, c_in, *axes] to [B, c_out, *axes].

        Raises:
            ValueError: the piece has other channels, or frames of another size than earlier ones.
        """
        return self._advance(piece.movedim(2 + self.axis, 2)).movedim(2, 2 + self.axis)

    def clear_state(self) -> None:
        """Forget the frames seen so far."""
        for link in self._links():
            link.layer.clear_state()

    def get_state(self) -> dict[str, Any]:
        """Return a copy of what is remembered of earlier frames, as tensors and plain data."""
        return {
            str(number): dict(link.layer.get_state()) for number, link in enumerate(self._links())
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume where `get_state` was called.

        Raises:
            KeyError, ValueError: the state was not returned by such a network.
        """
        for number, link in enumerate(self._links()):
            link.layer.set_state(state[str(number)])

    def _advance(self, series: Tensor) -> Tensor:
        for link in self._links():
            link.num_series = len(series)
        return to_series(super().forward(to_frames(series)), len(series))

    def _links(self) -> list[InFrames]:
        return [module for module in self.modules() if isinstance(module, InFrames)]

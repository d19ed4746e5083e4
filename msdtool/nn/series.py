"""Networks that work on a series frame by frame, with temporal layers as the only link."""

from typing import Any

import torch
from torch import Tensor, nn

from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.streaming.frames import InFrames, to_frames, to_series
from msdtool.nn.streaming.series import pieces


class SeriesNetwork(ScaledNetwork):
    """A network of images applied to series of frames: time series, or the slices of volumes.

    Frames are linked by the temporal layers (`InFrames`) in the network alone; these look back
    only, so a series can come in pieces of any length. Where no gradient is recorded, the network
    takes ``dt`` frames at a time, and its memory depends on ``dt``, not on the series' length.

    Args:
        msd: the network of images.
        c_in: input channels.
        c_out: output channels.
        axis: which of the three axes of a series is time.
        dt: frames per piece.
        stem: layers in front of the network; None: none.
        head: layers behind it; None: none.

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
        """Go on with a series: map its next frames [B, c_in, *axes] to [B, c_out, *axes].

        Raises:
            ValueError: the piece has other channels, or frames of another size than those before.
        """
        return self._advance(piece.movedim(2 + self.axis, 2)).movedim(2, 2 + self.axis)

    def clear_state(self) -> None:
        """Forget the frames so far."""
        for link in self._links():
            link.layer.clear_state()

    def get_state(self) -> dict[str, Any]:
        """Return a copy of what is remembered of the frames so far, as tensors and plain data."""
        return {
            str(number): dict(link.layer.get_state()) for number, link in enumerate(self._links())
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called.

        Raises:
            KeyError: the state is not that of such a network.
            ValueError: likewise.
        """
        for number, link in enumerate(self._links()):
            link.layer.set_state(state[str(number)])

    def _advance(self, series: Tensor) -> Tensor:
        for link in self._links():
            link.num_series = len(series)
        return to_series(super().forward(to_frames(series)), len(series))

    def _links(self) -> list[InFrames]:
        return [module for module in self.modules() if isinstance(module, InFrames)]

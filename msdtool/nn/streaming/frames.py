"""Temporal layers inside a network of images."""

from torch import Tensor, nn

from msdtool.nn.streaming.layer import Layer


class InFrames(nn.Module):
    """A temporal layer for batches of frames, inside a network of images.

    Args:
        layer: takes series [B, C, T, X, Y] and returns the same number of frames.

    Attributes:
        num_series: number of series in a batch, one after the other.

    State-dict names: ``layer.*``.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.num_series = 1

    def forward(self, input: Tensor) -> Tensor:
        """Map [B*T, C, X, Y] to [B*T, C', X', Y'].

        Raises:
            ValueError: the layer changes the number of frames.
        """
        series = to_series(input, self.num_series)
        output: Tensor = self.layer(series)
        if output.shape[2] != series.shape[2]:
            raise ValueError(
                f"{type(self.layer).__name__} returns {output.shape[2]} frames for "
                f"{series.shape[2]}; inside a network every frame must yield one"
            )
        return to_frames(output)


def to_frames(series: Tensor) -> Tensor:
    """[B, C, T, X, Y] to [B*T, C, X, Y]."""
    return series.transpose(1, 2).flatten(0, 1)


def to_series(frames: Tensor, num_series: int) -> Tensor:
    """[B*T, C, X, Y] to [B, C, T, X, Y]."""
    return frames.unflatten(0, (num_series, -1)).transpose(1, 2)

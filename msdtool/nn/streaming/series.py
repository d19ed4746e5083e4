"""Time series as tensors: their axes, their pieces, and the frames preceding a piece."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.nn.streaming.output import Output

TIME_AXES = {1: 0, 3: 0, 5: 2}
"""Where time is in [T], [T, X, Y] and [B, C, T, X, Y]."""
INITIAL_HISTORIES = ("first_frame", "zeros")


def as_tensor(values: Any, device: torch.device) -> Tensor:
    """Return a tensor unchanged, the first tensor of an `Output`, anything else as float32."""
    if isinstance(values, Output):
        return values[0]
    if isinstance(values, Tensor):
        return values
    return torch.tensor(np.asarray(values), dtype=torch.float32, device=device)


def with_axes(series: Tensor, dim: int | None) -> Tensor:
    """Return a series with ``dim`` axes, 1, 3 or 5, by adding or removing axes of size 1.

    With None the series is returned unchanged.

    Raises:
        ValueError: the series has another number of axes, or axes that cannot be removed.
    """
    if dim is None:
        return series
    shape = tuple(series.shape)
    if series.dim() not in TIME_AXES:
        raise ValueError(
            f"input has shape {shape}; expected a series [T], [T, X, Y] or [B, C, T, X, Y]"
        )
    if series.dim() == 1 < dim:
        series = series[:, None, None]
    if series.dim() == 3 < dim:
        series = series[None, None]
    if series.dim() == 5 > dim and shape[:2] == (1, 1):
        series = series[0, 0]
    if series.dim() == 3 > dim and series.shape[1:] == (1, 1):
        series = series[:, 0, 0]
    if series.dim() != dim:
        raise ValueError(f"input has shape {shape}; the layer takes series of {dim} axes")
    return series


def pieces(
    series: Tensor, dt: int | None, start: int = 0, stop: int | None = None
) -> Iterator[Tensor]:
    """Split the frames from ``start`` to ``stop`` into pieces of ``dt``, the last may be shorter.

    Raises:
        ValueError: dt is not positive, or the range contains no frame.
    """
    axis = TIME_AXES[series.dim()]
    stop = min(series.shape[axis], series.shape[axis] if stop is None else stop)
    if dt is not None and dt < 1:
        raise ValueError(f"dt is {dt}; expected at least 1 frame")
    if not 0 <= start < stop:
        raise ValueError(f"there are no frames from {start} to {stop} in {series.shape[axis]}")
    for first in range(start, stop, dt or stop):
        yield series.narrow(axis, first, min(dt or stop, stop - first))


def prepend_history(
    series: Tensor, history: Tensor | None, length: int, initial: str = "first_frame"
) -> tuple[Tensor, Tensor | None]:
    """Prepend the ``length`` preceding frames to a piece.

    Args:
        series: the piece, [B, C, T, X, Y].
        history: what this function returned for the previous piece; None for the first piece.
        length: number of frames.
        initial: what precedes the first piece: "first_frame", its first frame repeated, or "zeros".

    Returns:
        The longer piece, and the history for the next one, detached and in separate memory; None if
        nothing needs to be remembered.

    Raises:
        ValueError: the frames of the history have another shape.
    """
    if length == 0:
        return series, None
    if history is None:
        first = series.detach()[:, :, :1]
        frames = torch.zeros_like(first) if initial == "zeros" else first
        history = frames.expand(-1, -1, length, -1, -1)
    elif history.shape[:2] != series.shape[:2] or history.shape[3:] != series.shape[3:]:
        raise ValueError(
            f"the input has shape {tuple(series.shape)}, the series so far "
            f"{tuple(history.shape[:2])} and {tuple(history.shape[3:])} in its batch, channels and "
            "space; call clear_state() before a new series"
        )
    longer = torch.cat([history.to(series), series], dim=2)
    return longer, longer.detach()[:, :, longer.shape[2] - length :].clone()

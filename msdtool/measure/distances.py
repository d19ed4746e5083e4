"""Exact Euclidean distances to the nearest pixel of a set.

The squared distance is separable: along one axis after the other it is the lower envelope
min_y D(y) + (x - y)^2 (Felzenszwalb & Huttenlocher, Theory of Computing 8, 2012, eq. 3). It is
computed in integers, so that it is exact, and for all sets of a batch at once.
"""

import torch
from torch import Tensor

NOWHERE = 2**29
"""More than any squared distance: of a set without pixels."""
STEPS = 16
"""Steps between two looks at whether a further one could change anything."""


def squared_distances(sets: Tensor) -> Tensor:
    """Squared distance in pixels from each pixel to the nearest one of its set.

    Args:
        sets: [N, *space], bool, N sets of pixels.

    Returns:
        [N, *space], int32; `NOWHERE` for a set without pixels.
    """
    squared = torch.full(sets.shape, NOWHERE, dtype=torch.int32, device=sets.device)
    present = sets.flatten(1).any(1)
    if present.any():
        found = _along_lines(sets[present])
        for axis in range(1, sets.dim() - 1):
            found = _envelope(found, axis)
        squared[present] = found
    return squared


def _along_lines(sets: Tensor) -> Tensor:
    """Squared distances along the last axis alone, from the places of the pixels on both sides."""
    length = sets.shape[-1]
    places = torch.arange(length, device=sets.device)
    far = 2 * NOWHERE  # far from every place
    before = torch.where(sets, places, -far).cummax(-1).values
    after = torch.where(sets, places, far).flip(-1).cummin(-1).values.flip(-1)
    distance = torch.minimum(places - before, after - places)
    squared = torch.where(distance < length, distance.square(), NOWHERE)
    return squared.to(torch.int32)


def _envelope(squared: Tensor, axis: int) -> Tensor:
    """The lower envelope along an axis of parabolas that stand on ``squared``."""
    length = squared.shape[axis]
    best, shifted = squared.clone(), torch.empty_like(squared)
    for step in range(1, length):
        if step % STEPS == 1 and step**2 >= int(best.max()):
            break
        torch.add(squared, step**2, out=shifted)
        rest = length - step
        for to, source in ((step, 0), (0, step)):
            part = best.narrow(axis, to, rest)
            torch.minimum(part, shifted.narrow(axis, source, rest), out=part)
    return best.clamp_(max=NOWHERE)

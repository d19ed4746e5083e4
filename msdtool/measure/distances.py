"""Exact Euclidean distances to the nearest pixel of a set.

The squared distance is separable: along one axis after the other it is the lower envelope
min_y D(y) + (x - y)^2 (Felzenszwalb & Huttenlocher, Theory of Computing 8, 2012). It is
computed in integers, so that it is exact.
"""

import torch
from torch import Tensor

NOWHERE = 2**29
"""More than any squared distance: of a set without pixels."""
PIECE = 2**20
"""Pixels of which lines are searched at once, about."""
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
    for pixels, found in zip(sets, squared, strict=True):  # one at a time fits in a cache
        if pixels.any():
            lines, into = pixels.reshape(-1, pixels.shape[-1]), found.view(-1, pixels.shape[-1])
            rows = max(1, PIECE // pixels.shape[-1])
            for piece, place in zip(lines.split(rows), into.split(rows), strict=True):
                place.copy_(_along_lines(piece))
            for axis in range(pixels.dim() - 1):
                _lower(found, axis)
    return squared


def _along_lines(sets: Tensor) -> Tensor:
    """Squared distances along the last axis alone, from the places of the pixels on both sides."""
    length = sets.shape[-1]
    places = torch.arange(length, device=sets.device)
    far = 2 * NOWHERE  # far from every place
    before = torch.where(sets, places, -far).cummax(-1).values
    after = torch.where(sets, places, far).flip(-1).cummin(-1).values.flip(-1)
    distance = torch.minimum(places - before, after - places)
    return torch.where(distance < length, distance.square(), NOWHERE)


def _lower(squared: Tensor, axis: int) -> None:
    """Replace ``squared`` by the lower envelope, along an axis, of parabolas that stand on it."""
    length = squared.shape[axis]
    given, shifted = squared.clone(), torch.empty_like(squared)
    for step in range(1, length):
        if step % STEPS == 1 and step**2 >= int(squared.max()):
            break
        torch.add(given, step**2, out=shifted)
        rest = length - step
        for to, source in ((step, 0), (0, step)):
            part = squared.narrow(axis, to, rest)
            torch.minimum(part, shifted.narrow(axis, source, rest), out=part)

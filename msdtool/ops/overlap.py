"""Whether two tensors have elements in common."""

from torch import Tensor


def overlap(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one dtype share an element; exact for any strides.

    Slices of channels of one buffer interleave in memory without sharing anything, so a comparison
    of their extents would not do.
    """
    if first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr():
        return False
    if 0 in first.shape or 0 in second.shape:
        return False
    # They share an element if sum(stride * step) = offset for a step within each axis' limits.
    limits: dict[int, tuple[int, int]] = {}
    for tensor, sign in ((first, 1), (second, -1)):
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True):
            low, high = limits.get(stride, (0, 0))
            reach = sign * (size - 1)
            limits[stride] = low + min(reach, 0), high + max(reach, 0)
    limits.pop(0, None)
    offset = int(second.storage_offset()) - int(first.storage_offset())
    return _reachable(offset, sorted(limits.items(), reverse=True))


def _reachable(offset: int, axes: list[tuple[int, tuple[int, int]]]) -> bool:
    """Whether steps along the axes, the longest strides first, can add up to ``offset``."""
    if not axes:
        return offset == 0
    (stride, (low, high)), *inner = axes
    least = sum(size * limits[0] for size, limits in inner)
    most = sum(size * limits[1] for size, limits in inner)
    first, last = -((most - offset) // stride), (offset - least) // stride
    return any(
        _reachable(offset - stride * step, inner)
        for step in range(max(low, first), min(high, last) + 1)
    )

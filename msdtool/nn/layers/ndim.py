"""Classes that torch has once for each number of spatial axes."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def by_ndim(kinds: Sequence[T], ndim: int) -> T:
    """Return the one of three kinds that is for ``ndim`` spatial axes.

    Raises:
        ValueError: ``ndim`` is not 1, 2 or 3.
    """
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim is {ndim}; allowed: 1, 2, 3")
    return kinds[ndim - 1]

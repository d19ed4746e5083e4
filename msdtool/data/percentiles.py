"""Exact percentiles of any number of values in bounded memory, by two passes over them.

The bits of a float32, read as an integer, rise with its value (those of negative ones fall). The
first pass counts values by the upper half of these bits, which tells the upper half of the value
of each rank; the second counts those by the lower half (a radix selection).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from msdtool.errors import InputError

Counts = np.ndarray[Any, np.dtype[np.int64]]
Values = np.ndarray[Any, np.dtype[np.float32]]
Bits = np.ndarray[Any, np.dtype[np.uint32]]
HALF = 16
SIGN = np.uint32(1 << 31)


def alone(count: Callable[[], Counts]) -> Counts:
    """Count the values of a single process."""
    return count()


def percentiles(
    read: Callable[[], Iterable[Values]],
    channels: int,
    wanted: Sequence[float],
    total: Callable[[Callable[[], Counts]], Counts] = alone,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return percentiles per channel, as `numpy.percentile` interpolates between two values.

    Args:
        read: returns all values [C, N] without NaN, in any number of pieces; called twice.
        channels: C.
        wanted: the percentiles, 0 to 100.
        total: counts on each process, and returns the sum over those that share the values.

    Returns:
        [len(wanted), C].

    Raises:
        InputError: there are no values.
    """
    sums = total(lambda: _upper_halves(read, channels)).cumsum(1)
    count = int(sums[0, -1])
    if not count:
        raise InputError("there are no values that count")
    places = [(count - 1) * percent / 100 for percent in wanted]
    ranks = sorted({min(int(place) + step, count - 1) for place in places for step in (0, 1)})
    # The bin of each rank, and the number of values in the bins before it.
    bins = np.stack([np.searchsorted(line, ranks, "right") for line in sums])
    below = np.where(bins > 0, np.take_along_axis(sums, np.maximum(bins - 1, 0), 1), 0)
    fine = total(lambda: _lower_halves(read, bins)).cumsum(2)
    found = {}
    for number, rank in enumerate(ranks):
        inner = rank - below[:, number]
        lower = [np.searchsorted(fine[c, number], inner[c], "right") for c in range(channels)]
        found[rank] = _values((bins[:, number] << HALF) + np.array(lower))
    return np.stack([_between(found, place, count) for place in places])


def _upper_halves(read: Callable[[], Iterable[Values]], channels: int) -> Counts:
    """Numbers of values [C, bins] by the upper half of their bits."""
    found = np.zeros((channels, 1 << HALF), np.int64)
    for values in read():
        for channel, bits in enumerate(_ordered(values)):
            found[channel] += np.bincount(bits >> HALF, minlength=1 << HALF)
    return found


def _lower_halves(read: Callable[[], Iterable[Values]], bins: Counts) -> Counts:
    """Numbers of values [C, R, bins] by the lower half, where the upper one is of bins [C, R]."""
    found = np.zeros((*bins.shape, 1 << HALF), np.int64)
    for values in read():
        for channel, bits in enumerate(_ordered(values)):
            for number, upper in enumerate(bins[channel]):
                lower = bits[bits >> HALF == upper] & ((1 << HALF) - 1)
                found[channel, number] += np.bincount(lower, minlength=1 << HALF)
    return found


def _between(found: dict[int, Any], place: float, count: int) -> Any:
    rank = int(place)
    low, high = found[rank], found[min(rank + 1, count - 1)]
    return low + (high - low) * (place - rank)


def _ordered(values: Values) -> Bits:
    """Integers in the order of the values; both zeros are one value."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def _values(ordered: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    bits = ordered.astype(np.uint32)
    bits = np.where(bits & SIGN, bits & ~SIGN, ~bits)
    return bits.view(np.float32).astype(np.float64)

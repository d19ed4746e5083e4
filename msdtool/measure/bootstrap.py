"""How sure a metric is, from the images that it was measured on.

The images are a sample of those that there could be. Drawing as many of them again, with
replacement, shows how much a metric would vary from sample to sample; the middle 95 % of its values
are its percentile interval (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chap. 13).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
RESAMPLES = 2000
LEVEL = 95
SEED = 0
BLOCK = 2**22
"""Draws made at once, about."""


def interval(statistic: Callable[[Array], Array], number: int) -> Array:
    """Return the percentile interval of each of M metrics of ``number`` images, [2, M].

    The draws are the same for every metric of as many images, and in every run.

    Args:
        statistic: maps how often each image was drawn, [R, number], to the metrics of each of the R
            resamples, [R, M]; they may be infinite, and NaN where a resample has none.
        number: of images; the interval of less than two is NaN.
    """
    values = np.concatenate([statistic(draws) for draws in _resamples(number)])
    bounds = np.full((2, values.shape[1]), np.nan)
    if number < 2:
        return bounds
    tail = (100 - LEVEL) / 2
    for column, metric in enumerate(values.T):
        known = metric[~np.isnan(metric)]
        if known.size:
            # One of the values: between a finite and an infinite one there is nothing.
            bounds[:, column] = np.percentile(known, (tail, 100 - tail), method="inverted_cdf")
    return bounds


def weighted_means(draws: Array, values: Array) -> Array:
    """Mean of each metric over the images drawn, [R, M]; NaN if none of them has the metric.

    Args:
        draws: how often each image was drawn, [R, N].
        values: the metrics of each image, [N, M]; NaN where it has none.
    """
    finite = np.isfinite(values)
    sums, counts = draws @ np.where(finite, values, 0), draws @ ~np.isnan(values)
    infinite = draws @ np.where(np.isinf(values), np.sign(values), 0)
    with np.errstate(invalid="ignore"):
        means: Array = sums / np.where(counts > 0, counts, np.nan)
        return np.where(infinite != 0, np.copysign(np.inf, infinite), means)


def interval_of_means(values: Array) -> Array:
    """The `interval` of `weighted_means` of ``values`` [N, M], [2, M]."""
    return interval(lambda draws: weighted_means(draws, values), len(values))


def _resamples(number: int) -> Iterator[Array]:
    """How often each image is drawn in each of the resamples, in blocks [R, number]."""
    rng = np.random.default_rng(SEED)
    rows = max(1, BLOCK // max(number, 1))
    for start in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - start)
        draws = rng.integers(0, number, (size, number)) if number else np.zeros((size, 0), int)
        places = draws + number * np.arange(size)[:, None]
        counts = np.bincount(places.ravel(), minlength=size * number).reshape(size, number)
        yield counts.astype(np.float64)

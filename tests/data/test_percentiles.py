"""Percentiles of values that come in pieces, against numpy's of all at once in float64."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from msdtool.data.percentiles import percentiles
from msdtool.errors import InputError

RNG = np.random.default_rng(0)
TINY = np.finfo(np.float32).smallest_subnormal
KINDS = {
    "normal": RNG.standard_normal((2, 5000)),
    "counts": RNG.poisson(3, (1, 4000)),
    "far from 0": 1e6 + RNG.random((1, 3000)),
    "of all sizes": RNG.choice([-1, 1], (1, 3000)) * 10.0 ** RNG.uniform(-38, 38, (1, 3000)),
    "mostly zero": np.where(RNG.random((2, 2000)) < 0.9, 0, RNG.standard_normal((2, 2000))),
    "both zeros": np.array([[0.0, -0.0, -0.0, 0.0, 1.0, -TINY, TINY]]),
    "one": np.array([[3.5]]),
    "two": np.array([[7.0, -2.0]]),
    "the largest": np.array([[np.finfo(np.float32).max, -np.finfo(np.float32).max, 0.0]]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [1, 3])
def test_they_are_those_of_all_values(kind, pieces):
    values = KINDS[kind].astype(np.float32)
    wanted = [0, 0.1, 1, 25, 50, 99.8, 100]
    parts = np.array_split(values, pieces, axis=1)
    found = percentiles(lambda: parts, len(values), wanted)
    expected = np.percentile(values.astype(np.float64), wanted, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("border", [1500, 5000])
def test_several_processes_share_the_values(border):
    values = KINDS["normal"].astype(np.float32)
    meeting, counted = threading.Barrier(2, timeout=60), {}

    def share(rank):
        def total(count):
            counted[rank] = count()
            meeting.wait()
            both = counted[0] + counted[1]
            meeting.wait()
            return both

        part = [values[:, :border], values[:, border:]][rank]
        return percentiles(lambda: [part], 2, [1, 50], total)

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(share, range(2)))
    for each in found:
        np.testing.assert_array_equal(each, percentiles(lambda: [values], 2, [1, 50]))


def test_without_values_there_are_none():
    with pytest.raises(InputError, match="no values that count"):
        percentiles(lambda: [np.zeros((2, 0), np.float32)], 2, [50])

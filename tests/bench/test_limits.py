"""Bytes by count, from sums written out."""

import pytest

from msdtool.bench import limits
from msdtool.bench.cases import Case


def test_bytes_of_a_network_of_two_blocks():
    case = Case((10, 10), depth=10)  # blocks of 8 and 2 layers read 1 and 9 channels
    assert limits.forward_bytes(case) == 4 * 100 * (1 + 9 + 11)
    assert limits.step_bytes(case) == 4 * 100 * (10 + 11 + 3 * 10 + 2 * 11)


def test_the_limit_is_arithmetic_or_memory():
    case = Case((10, 10), depth=10)
    flops = 100 * (2 * 9 * 55 + 2 * 11)
    assert limits.forward_limit(case, 1e6, 1e12) == pytest.approx(flops / 1e6)
    assert limits.step_limit(case, 1e6, 1e12) == pytest.approx(3 * flops / 1e6)
    assert limits.forward_limit(case, 1e12, 1e3) == pytest.approx(8.4)

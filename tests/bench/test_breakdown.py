"""The figures of single kernels."""

import pytest
import torch

from msdtool.bench.breakdown import KernelRow, measure_kernels, table
from msdtool.bench.cases import Case

CPU = torch.device("cpu")


def test_figures_follow_from_counts_and_times(shim):
    rows = list(measure_kernels(Case((16, 17), depth=10), CPU, 1e9, 1e6, seconds=0.0))
    first = rows[0]
    assert first.gb_per_second == pytest.approx(4 * 27 * 272 / first.seconds / 1e9)
    assert first.tflops == pytest.approx(2 * 18 * 9 * 272 / first.seconds / 1e12)
    assert first.limit_share == pytest.approx(4 * 27 * 272 / 1e6 / first.seconds)


def test_the_table_has_a_line_for_each():
    lines = table([KernelRow("taps_gather", 0.0012, 1234.0, 0.5, 0.25)]).splitlines()
    assert lines[0].split() == ["kernel", "ms", "GB/s", "TFLOP/s", "of", "limit"]
    assert lines[1].split() == ["taps_gather", "1.2000", "1234", "0.50", "25.0%"]

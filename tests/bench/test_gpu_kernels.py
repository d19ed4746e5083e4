"""Single kernels: what is started, and the figures that follow."""

import pytest
import torch

from msdtool.bench.cases import Case
from msdtool.bench.gpu_kernels import KernelRow, kernels_of, measure_kernels, table

CPU = torch.device("cpu")


@pytest.mark.parametrize("case", [Case((16, 17), depth=10), Case((11, 12, 13), depth=5, width=2)])
def test_every_kernel_of_a_step_is_started(shim, case):
    for kernel in kernels_of(case, CPU):
        kernel.start()
        assert kernel.num_bytes > 0
    fused = {"fused_forward"} if case.ndim == 2 else set()
    assert {name for _, name in shim.launched} == fused | {
        "taps_gather", "taps_spread", "convolution_forward", "convolution_backward_input",
        "convolution_backward_weight",
    }  # fmt: skip


def test_counts_of_a_product():
    """Layers 8 and 9 read 9 channels together: 2 * 9 rows, 272 pixels."""
    product = kernels_of(Case((16, 17), depth=10), CPU)[0]
    assert product.flops == 2 * 18 * 9 * 272
    assert product.num_bytes == 4 * (9 + 18) * 272


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

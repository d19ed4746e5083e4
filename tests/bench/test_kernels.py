"""Single kernels: what is started, and the counts of their work."""

import pytest
import torch

from msdtool.bench.cases import Case
from msdtool.bench.kernels import kernels_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("case", [Case((16, 17), depth=10), Case((11, 12, 13), depth=5, width=2)])
def test_every_kernel_of_a_step_is_started(shim, case):
    for kernel in kernels_of(case, CPU):
        kernel.start()
        assert kernel.num_bytes > 0
    assert {name for _, name in shim.launched} == {
        "front_forward", "back_input", "back_weight", "pack",
        "taps_gather", "taps_spread", "inner_forward", "inner_backward", "convolution_forward",
        "convolution_backward_input",
        "convolution_backward_weight",
    }  # fmt: skip


def test_counts_of_a_product(shim):
    """Layers 8 and 9 read 9 channels together: 2 * 9 rows, 272 pixels."""
    product = kernels_of(Case((16, 17), depth=10), CPU)[0]
    assert product.flops == 2 * 18 * 9 * 272
    assert product.num_bytes == 4 * (9 + 18) * 272


def test_counts_of_the_kernels_for_tensor_cores(shim):
    """Layers 7 to 9 have 3 outputs and read 8 channels together, the last layer 10."""
    rows = {kernel.name: kernel for kernel in kernels_of(Case((16, 17), depth=10), CPU)}
    counts = {name: (rows[name].num_bytes, rows[name].flops) for name in rows}
    assert counts["front_forward"] == (4 * (8 + 3) * 272, 2 * 3 * 9 * 8 * 272)
    assert counts["back_input"] == (4 * (2 * 8 + 3) * 272, 2 * 3 * 9 * 8 * 272)
    assert counts["back_weight"] == (4 * (10 + 3) * 272, 2 * 3 * 9 * 10 * 272)

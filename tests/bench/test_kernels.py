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
    front = {"front_forward", "pack"} if case.ndim == 2 else set()
    assert {name for _, name in shim.launched} == front | {
        "taps_gather", "taps_spread", "inner_forward", "inner_backward", "convolution_forward",
        "convolution_backward_input",
        "convolution_backward_weight",
    }  # fmt: skip


def test_counts_of_a_product(shim):
    """Layers 8 and 9 read 9 channels together: 2 * 9 rows, 272 pixels."""
    product = kernels_of(Case((16, 17), depth=10), CPU)[0]
    assert product.flops == 2 * 18 * 9 * 272
    assert product.num_bytes == 4 * (9 + 18) * 272

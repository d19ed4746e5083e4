"""The kernels to compare with compute the same network."""

import torch

from msdtool import ops
from msdtool.bench import naive
from msdtool.bench.cases import Case, Problem


def test_it_is_the_same_network(shim):
    problem = Problem(Case((13, 17), depth=6, c_in=2, c_out=2), torch.device("cpu"))
    problem.input.requires_grad_()
    output = problem.forward(naive.per_layer)
    expected = problem.forward(ops.msd_module)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    for found, wanted in zip(problem.backward(output), problem.backward(expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert {name for _, name in shim.launched} == {
        "naive_forward", "naive_backward_input", "naive_backward_weight",
    }  # fmt: skip

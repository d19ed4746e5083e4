import pytest
import torch

from msdtool.bench.cases import Case, Problem
from msdtool.bench.rivals import concatenate, concatenate_bytes, in_place, in_place_bytes
from msdtool.ops import reference

CASES = (
    Case((13, 17), depth=5, width=1),
    Case((12, 15), depth=11, width=2, c_in=3, c_out=2, batch=2),
    Case((7, 9, 8), depth=4, width=2, c_out=3),
)


def results(module, case):
    problem = Problem(case, torch.device("cpu"), torch.float64)
    problem.input.requires_grad_()
    output = problem.forward(module)
    return [output, *problem.backward(output)]


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("module", [concatenate, in_place])
def test_rivals_compute_the_network_and_its_gradients(module, case, padding):
    case = Case(**{**vars(case), "padding": padding})
    for found, expected in zip(
        results(module, case), results(reference.msd_module, case), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("module", [concatenate, in_place])
def test_rivals_reflect_where_the_border_is_symmetric(module):
    case = Case((13, 17), depth=4)
    reflected = Case((13, 17), depth=4, padding="reflect")
    torch.testing.assert_close(results(module, case)[0], results(module, reflected)[0])


def test_the_estimate_of_concatenation_grows_with_depth_squared():
    # Autograd keeps at least what each layer reads: 1 + 2 + ... + 100 channels of 4 bytes.
    case = Case((512, 512), depth=100, padding="zeros")
    kept = 4 * 512**2 * 5050
    assert kept <= concatenate_bytes(case) <= 1.1 * kept
    assert concatenate_bytes(Case((512, 512), depth=100, padding="reflect")) > 2 * kept


def test_the_estimate_in_place_grows_with_depth():
    shallow, deep = (in_place_bytes(Case((256, 256), depth=depth)) for depth in (49, 99))
    assert deep == 2 * shallow
    assert shallow > 2 * Case((256, 256), depth=49).buffer_bytes

"""The plain torch twin against the formula."""

import pytest
import torch

from msdtool.ops import reference
from tests.ops.formula import block_formula, make_problem, module_formula


@pytest.mark.parametrize("padding", ["symmetric", "reflect", "zeros"])
@pytest.mark.parametrize("space", [(9, 6), (4, 5, 6)])
def test_equals_the_formula(space: tuple[int, ...], padding: str) -> None:
    limit = min(space) - 1
    problem = make_problem(space, width=2, c_in=2, dilations=(1, limit), padding=padding)
    torch.testing.assert_close(
        reference.msd_block(*problem.block_arguments()), block_formula(problem), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        reference.msd_module(*problem.module_arguments()),
        module_formula(problem),
        rtol=0,
        atol=1e-12,
    )

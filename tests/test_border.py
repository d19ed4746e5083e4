"""The border rule: one set of words and numbers in Python, C++ and CUDA."""

import re

import numpy as np
import pytest

from msdtool.border import PADDINGS, RULES, edge_width, largest_dilation
from msdtool.ops.checks import check_dilations
from msdtool.resources import resource_folder


@pytest.mark.parametrize("header", ["border.cuh", "cpu/border.h"])
def test_the_sources_number_the_rules_alike(header: str) -> None:
    text = (resource_folder("kernels") / header).read_text()
    (body,) = re.findall(r"enum \w+(?: : \w+)? \{([^}]*)\}", text)
    numbers = {name.lower(): int(number) for name, number in re.findall(r"(\w+) = (\d+)", body)}
    assert numbers == RULES
    assert tuple(numbers) == PADDINGS


@pytest.mark.parametrize(("padding", "limit"), [("symmetric", 7), ("reflect", 6), ("zeros", None)])
def test_a_dilation_reaches_no_further_than_one_mirror_image(
    padding: str, limit: int | None
) -> None:
    assert largest_dilation(7, padding) == limit
    check_dilations([limit or 100], (7, 9), padding)
    if limit is not None:
        with pytest.raises(ValueError, match=f"at most {limit}"):
            check_dilations([limit + 1], (7, 9), padding)


def test_the_number_of_a_rule_that_mirrors_is_its_edge_width() -> None:
    """The CUDA kernels compute with it."""
    assert {padding: edge_width(padding) for padding in PADDINGS if padding != "zeros"} == {
        "symmetric": 0,
        "reflect": 1,
    }
    assert all(RULES[padding] == edge_width(padding) for padding in ("symmetric", "reflect"))


@pytest.mark.parametrize("padding", ["symmetric", "reflect"])
def test_positions_beyond_the_edge_are_those_of_numpy(padding: str) -> None:
    edge, size = edge_width(padding), 5
    stands_for = [edge - 1 - x for x in range(-4, 0)]
    stands_for += [*range(size), *(2 * size - 1 - edge - x for x in range(size, size + 4))]
    assert np.pad(np.arange(size), 4, mode=padding).tolist() == stands_for

"""The border rule: one set of words and numbers in Python, C++ and CUDA."""

import re

import pytest

from msdtool.border import PADDINGS, RULES, largest_dilation
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

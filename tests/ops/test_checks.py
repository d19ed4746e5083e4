"""Arguments of msd_block and msd_module that are refused; overlap against sets of elements."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool import ops
from msdtool.ops.checks import overlap
from tests.ops.formula import (
    make_problem,
)

BUFFER = torch.arange(60)


@pytest.mark.parametrize(("padding", "dilation", "limit"), [("symmetric", 8, 7), ("reflect", 7, 6)])
def test_too_large_dilation_names_both_numbers(padding: str, dilation: int, limit: int) -> None:
    problem = make_problem((7, 9), dilations=(1, dilation), padding=padding)
    message = f"dilation {dilation} is too large for an image of size 7.*at most {limit}"
    with pytest.raises(ValueError, match=message):
        ops.msd_module(*problem.module_arguments())


def test_wrong_arguments_are_named() -> None:
    problem = make_problem((7, 9))
    image, weights, bias, *rest = problem.module_arguments()
    with pytest.raises(ValueError, match="impl is 'fast'; allowed: auto, compiled, torch, cuda"):
        ops.msd_block(*problem.block_arguments(), impl="fast")
    with pytest.raises(ValueError, match="impl is 'blocked', which is now called 'torch'"):
        ops.msd_block(*problem.block_arguments(), impl="blocked")
    with pytest.raises(ValueError, match="padding is 'wrap'; allowed: symmetric, reflect, zeros"):
        ops.msd_block(image, weights, bias, [1], "wrap")
    with pytest.raises(ValueError, match=r"weight1 has shape .*; expected \(1, 2, 3, 3\)"):
        ops.msd_block(image, [weights[0], weights[0]], bias, [1])
    with pytest.raises(ValueError, match=r"bias has shape \(4,\); expected \(5,\)"):
        ops.msd_block(image, weights, bias[1:], [1])
    with pytest.raises(ValueError, match=r"final_weight has shape .*; expected \(1, 6, 1\)"):
        ops.msd_module(image, weights, bias, rest[0][:, 1:], rest[1], [1])
    with pytest.raises(ValueError, match="a parameter has torch"):
        ops.msd_block(image.float(), weights, bias, [1])
    with pytest.raises(ValueError, match="got 0 weights and 1 dilations"):
        ops.msd_block(image, [], bias, [1])
    with pytest.raises(ValueError, match=r"input has shape \(1, 1, 7\)"):
        ops.msd_block(image[..., 0], weights, bias, [1])
    with pytest.raises(
        ValueError, match=r"weight0 has shape \(0, 1, 3, 3\); .* width of 1 or more"
    ):
        ops.msd_block(image, [weights[0][:0]], bias[:0], [1])
    with pytest.raises(ValueError, match=r"dilation 1\.5 is not an integer"):
        ops.msd_block(image, weights, bias, [1, 1.5])
    with pytest.raises(
        ValueError, match=r"input has dtype torch\.complex64; expected floating point"
    ):
        ops.msd_block(image.to(torch.complex64), weights, bias, [1])


@pytest.mark.parametrize("elsewhere", ["weight", "bias", "final weight", "final bias"])
def test_a_parameter_on_another_device_is_named(elsewhere: str) -> None:
    """Its address would be read as one of the input's device."""
    image, weights, bias, final_weight, final_bias, *rest = make_problem((7, 9)).module_arguments()
    given = {"bias": bias, "final weight": final_weight, "final bias": final_bias}
    given |= {"weight": weights[1]}
    given[elsewhere] = given[elsewhere].to("meta")
    weights[1] = given["weight"]
    with pytest.raises(ValueError, match="input is on cpu, a parameter is on meta"):
        ops.msd_module(
            image, weights, given["bias"], given["final weight"], given["final bias"], *rest
        )


@st.composite
def views(draw: st.DrawFn) -> Tensor:
    """Any strided view of the buffer, its elements their own positions."""
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    strides = draw(st.lists(st.integers(0, 9), min_size=len(shape), max_size=len(shape)))
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size)
    return BUFFER.as_strided(shape, strides, draw(st.integers(0, max(0, 59 - last))))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(first=views(), second=views())
def test_views_overlap_where_they_have_an_element_in_common(first, second):
    common = set(first.flatten().tolist()) & set(second.flatten().tolist())
    assert overlap(first, second) == bool(common)


@pytest.mark.parametrize("batch", [1, 3])
def test_channels_of_images_do_not_overlap(batch):
    buffer = torch.zeros(batch, 5, 6, 7)
    assert not overlap(buffer[:, :2], buffer[:, 2:3])
    assert overlap(buffer[:, :3], buffer[:, 2:3])
    assert not overlap(buffer, buffer.clone())

"""Sizes and paddings of semifield convolutions, and which pixels a tap reads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from msdtool.ops.semifield.geometry import arrange_kernel, parse_padding, plan_convolution


@pytest.mark.parametrize(("padding", "pads"), [
    (2, ((2, 2), (2, 2))),
    ((1, 2), ((1, 1), (2, 2))),
    ([3], ((3, 3), (3, 3))),
    (((1, 2), (0, 3)), ((1, 2), (0, 3))),
    ([[1, 2]], ((1, 2), (1, 2))),
    (((1, 2), 3), ((1, 2), (3, 3))),
    (-1, ((-1, -1), (-1, -1))),
    ("valid", ((0, 0), (0, 0))),
    ("same", ((2, 4), (1, 1))),
])  # fmt: skip
def test_paddings(padding, pads):
    assert parse_padding(padding, (4, 3), (2, 1)) == pads


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_valid_and_same_serve_any_number_of_axes(ndim):
    assert parse_padding("valid", (3,) * ndim, (1,) * ndim) == ((0, 0),) * ndim
    assert parse_padding("same", (3,) * ndim, (2,) * ndim) == ((2, 2),) * ndim


@pytest.mark.parametrize("padding", ["full", (1, 2, 3), (1.5, 2), ((1, 2, 3), 1), True, None, ()])
def test_other_paddings_are_refused(padding):
    with pytest.raises(ValueError, match=r"padding is .*; for 2 spatial axes expected"):
        parse_padding(padding, (3, 3), (1, 1))


@pytest.mark.parametrize(("img", "kernel", "arguments", "message"), [
    ((2, 3), (1, 3), {}, r"image has shape \(2, 3\); expected \[B, C, \*space\]"),
    ((2, 3, 5, 5), (1, 3, 3), {}, "differ in their number of axes"),
    ((2, 3, 0, 5), (1, 3, 3, 3), {}, "every size must be at least 1"),
    ((2, 3, 5, 5), (1, 3, 3, 3), {"stride": 0}, "stride is 0; expected a positive integer"),
    ((2, 3, 5, 5), (1, 3, 3, 3), {"stride": (1, 1, 1)}, "2 of them for 2 spatial axes"),
    ((2, 3, 5, 5), (1, 3, 3, 3), {"dilation": (1, -1)}, r"dilation is \(1, -1\)"),
    ((2, 3, 5, 5), (1, 3, 3, 3), {"dilation": True}, "dilation is True"),
    ((2, 3, 5, 5), (1, 3, 3, 3), {"groups": 0}, "groups is 0; expected a positive"),
    ((2, 3, 5, 5), (1, 2, 3, 3), {}, r"image has 3 channels, but .* takes 1 x 2 = 2"),
    ((2, 4, 5, 5), (3, 2, 3, 3), {"groups": 2}, "3 output channels do not divide by groups=2"),
    ((2, 1, 5, 4), (1, 1, 3, 3), {"dilation": 2}, r"the output would have size \(1, 0\)"),
])  # fmt: skip
def test_what_does_not_fit_is_named(img, kernel, arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_convolution(img, kernel, **arguments)


def test_the_kernel_is_mirrored_and_repeated_for_all_groups():
    kernel = torch.arange(12.0).view(2, 1, 2, 3)
    arranged = arrange_kernel(kernel, 3, True, "conv")
    assert arranged.shape == (6, 1, 2, 3)
    assert torch.equal(arranged[2:4], kernel.flip(2, 3))
    assert arrange_kernel(kernel, 2, False, "corr") is kernel
    with pytest.raises(ValueError, match="kind is 'cov'; allowed: \"conv\""):
        arrange_kernel(kernel, 1, False, "cov")


sizes = st.integers(1, 4)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(4, 9), st.integers(4, 9)),
    st.tuples(sizes, sizes), st.tuples(sizes, sizes), st.tuples(sizes, sizes),
    st.tuples(*[st.tuples(st.integers(-2, 6), st.integers(-2, 6))] * 2), st.integers(0, 3),
)  # fmt: skip
def test_a_tap_reads_what_the_padded_image_holds(space, kernel, stride, dilation, pads, cut):
    """Against a picture of positions: pixels are numbered, padding is -1, torch makes windows."""
    try:
        plan = plan_convolution((1, 1, *space), (1, 1, *kernel), stride, pads, dilation)
    except ValueError:
        return
    numbers = torch.arange(float(space[0] * space[1])).view(1, 1, *space)
    padded = F.pad(numbers, (*pads[1], *pads[0]), value=-1)
    for tap in plan.offsets:
        start = [f * d for f, d in zip(tap, dilation, strict=True)]
        expected = padded[0, 0, start[0] :: stride[0], start[1] :: stride[1]]
        expected = expected[: plan.out_space[0], : plan.out_space[1]]
        rows = range(min(cut, plan.out_space[0] - 1), plan.out_space[0])
        found = torch.full(plan.out_space, -1.0)
        slices = plan.tap_slices(tap, rows)
        if slices is not None:
            found[rows.start :][slices[0]] = numbers[0, 0][slices[1]]
        assert torch.equal(found[rows.start :], expected[rows.start :])

"""Overlap of strided tensors, against the sets of their elements."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool.ops.overlap import overlap

BUFFER = torch.arange(60)


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

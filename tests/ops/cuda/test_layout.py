"""Planes with a halo: where pixels lie, and what the halo holds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.border import PADDINGS
from msdtool.ops.cuda.inner import InnerLayers
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.engine import BlockShape
from tests.ops.formula import shifted
from tests.shim import ShimLauncher


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    space = (draw(st.integers(1, 5)), draw(st.integers(2, 45)))
    padding = draw(st.sampled_from(PADDINGS))
    shape = BlockShape(draw(st.integers(1, 3)), 1, (1, 2), padding, draw(st.integers(1, 2)), space)
    return Layout(shape, 4 * draw(st.integers(1, 12)))


def check_halo(layout: Layout, planes: torch.Tensor) -> None:
    """As the border rule says, as far as it names pixels; zeros beyond and for "zeros"."""
    shape, width = layout.shape, layout.shape.space[-1]
    rows = planes.view(len(planes), shape.batch, shape.space[0], layout.pitch)
    images = layout.images(planes).transpose(0, 1)
    count = min(layout.halo, width - (shape.padding == "reflect"))
    for step in range(layout.halo + 1):
        for side in (-1, 1):
            column = layout.halo + (width - 1 + step if side == 1 else -step)
            edge = width - 1 if side == 1 else 0
            if step <= count:
                wanted = shifted(images, (0, side * step), shape.padding)[..., edge]
            else:
                wanted = torch.zeros_like(images[..., 0])
            assert torch.equal(rows[..., column], wanted)
    assert torch.equal(rows[..., width + 2 * layout.halo :].abs().sum(), torch.tensor(0.0))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(layout=layouts())
def test_the_halo_of_channels_that_are_given(layout: Layout) -> None:
    planes = layout.new_planes(torch.empty(0)).fill_(torch.nan)
    given_channels = planes[: layout.shape.c_in]
    layout.images(given_channels).copy_(
        torch.rand(layout.shape.batch, len(given_channels), *layout.shape.space)
    )
    layout.fill_halo(planes)
    check_halo(layout, given_channels)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("space", [(7, 33), (5, 6)])
def test_the_halo_of_channels_that_a_kernel_writes(
    shim: ShimLauncher, padding: str, space: tuple[int, int]
) -> None:
    shape = BlockShape(1, 2, (3,), padding, 2, space)
    layout = Layout(shape, 8)
    planes = layout.new_planes(torch.empty(0)).fill_(torch.nan)
    layout.images(planes)[:, :1] = torch.rand(2, 1, *space)
    layout.fill_halo(planes)
    weight, output = torch.randn(2, 1, 3, 3), planes[1:]
    layout.images(output).copy_(torch.rand(2, 2, *space))
    InnerLayers(layout, torch.float32).forward(planes[:1], weight, output, output, 3)
    check_halo(layout, output)


def test_rows_begin_at_whole_vectors() -> None:
    layout = Layout(BlockShape(2, 1, (1,) * 3, "zeros", 2, (5, 13)), 12)
    planes = layout.new_planes(torch.empty(0))
    assert (layout.pitch, planes.shape) == (40, (5, 2 * 5 * 40))
    assert planes.untyped_storage().nbytes() >= 4 * (planes.numel() + 32)
    assert Layout(layout.shape).pitch == 13

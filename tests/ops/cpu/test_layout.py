"""The border rule on planes: fill against the formula's gather, and its adjoint."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msdtool.border import PADDINGS
from msdtool.ops.cpu.layout import Layout, mirrored_runs, padded_stride
from tests.ops.formula import mirrored_index


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("space", [(4, 7), (2, 3, 5)])
def test_fill_halo_follows_the_border_rule(space: tuple[int, ...], padding: str) -> None:
    layout = Layout(space, 4, padding)
    planes = layout.new_planes(2, like=torch.empty(0, dtype=torch.float64))
    planes.fill_(float("nan"))
    image = torch.randn(2, *space, dtype=torch.float64)
    layout.interior(planes).copy_(image)
    layout.fill_halo(planes)
    rows = layout.rows(planes)
    for column in range(-4, space[-1] + 4):
        source = mirrored_index(column, space[-1], padding)
        expected = torch.zeros_like(image[..., 0]) if source is None else image[..., source]
        assert torch.equal(rows[..., column + 4], expected)


@pytest.mark.parametrize("padding", PADDINGS)
def test_fold_halo_is_the_adjoint_of_fill_halo(padding: str) -> None:
    layout = Layout((5, 6), 3, padding)
    like = torch.empty(0, dtype=torch.float64)
    filled, folded = layout.new_planes(1, like=like), layout.new_planes(1, like=like)
    layout.load(filled, torch.randn(1, 5, 6, dtype=torch.float64))
    image = layout.interior(filled).clone()
    layout.fill_halo(filled)
    folded.normal_()
    inner_product = (filled * folded).sum()
    layout.fold_halo(folded)
    torch.testing.assert_close((image * layout.interior(folded)).sum(), inner_product)


@given(data=st.data(), size=st.integers(2, 12), padding=st.sampled_from(PADDINGS))
def test_runs_of_all_tiles_send_each_slice_where_the_rule_says(
    data: st.DataObject, size: int, padding: str
) -> None:
    limit = {"symmetric": size, "reflect": size - 1, "zeros": 2 * size}[padding]
    shift = data.draw(st.integers(-limit, limit))
    tile = data.draw(st.integers(1, size))
    sources: dict[int, int] = {}
    for start in range(0, size, tile):
        for run in mirrored_runs(size, shift, start, min(start + tile, size), padding):
            for step in range(run.length):
                target = run.target + (run.length - 1 - step if run.mirrored else step)
                assert target not in sources
                sources[target] = run.source + step
    wanted = {x: mirrored_index(x + shift, size, padding) for x in range(size)}
    assert sources == {x: source for x, source in wanted.items() if source is not None}


def test_stride_is_an_odd_number_of_cache_lines() -> None:
    for size in (1, 16, 17, 4096):
        assert padded_stride(size) >= size
        assert padded_stride(size) % 32 == 16

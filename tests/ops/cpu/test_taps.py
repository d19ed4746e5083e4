"""The stack of taps: gather and spread are adjoint."""

import pytest
import torch

from msdtool.ops.cpu.layout import Layout
from msdtool.ops.cpu.taps import DeltaTile, TapStack


@pytest.mark.parametrize("padding", ["symmetric", "reflect", "zeros"])
@pytest.mark.parametrize(
    ("space", "dilation"), [((9, 7), 1), ((9, 7), 6), ((6, 5, 7), 2), ((5, 5, 6), 4)]
)
@pytest.mark.parametrize(("start", "stop"), [(0, 5), (1, 3), (2, 5)])
def test_spread_is_the_adjoint_of_gather(
    space: tuple[int, ...], dilation: int, padding: str, start: int, stop: int
) -> None:
    """<gather(Z), d> = <Z, spread(d)> for random Z and d."""
    layout = Layout(space, dilation, padding)
    like = torch.empty(0, dtype=torch.float64)
    stack = TapStack(layout, 1, stop - start, like)
    stack.planes.normal_()
    taps = stack.tile(1, stop - start)
    layout.fill_halo(taps)
    before = layout.interior(taps).clone()
    gathered, delta = layout.new_planes(like=like).zero_(), layout.new_planes(like=like)
    stack.gather(0, dilation, start, stop, gathered)
    layout.load(delta, torch.randn(space, dtype=torch.float64))
    tile = DeltaTile(stack)
    tile.take(delta[None], torch.ones_like(delta)[None], start, stop)
    tile.load(0, dilation)
    stack.spread(0, tile)
    layout.fold_halo(taps)
    # The taps come back in reverse order.
    inner_product = (before * layout.interior(taps).flip(0)).sum()
    torch.testing.assert_close(inner_product, (gathered * delta).sum())

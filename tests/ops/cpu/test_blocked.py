"""The rule for blocks and tiles keeps the workspace bounded."""

import pytest

from msdtool.ops.cpu.blocked import STACK_BYTES, make_plan
from msdtool.ops.cpu.layout import Layout


@pytest.mark.parametrize("width", [1, 4, 20])
@pytest.mark.parametrize("space", [(64, 64), (8192, 8192), (64, 64, 64), (200, 300, 300)])
def test_stacks_fit_their_share(space: tuple[int, ...], width: int) -> None:
    layout = Layout(space, 10, "symmetric")
    plan = make_plan(layout, width, depth=100, element_size=4)
    for layers in (1, plan.forward_layers, plan.backward_layers):
        tile_bytes = plan.slice_bytes * layers * plan.tile_slices(layers)
        assert tile_bytes <= max(STACK_BYTES, plan.slice_bytes)


def test_blocks_are_not_deeper_than_the_network() -> None:
    plan = make_plan(Layout((64, 64), 10, "symmetric"), width=1, depth=2, element_size=4)
    assert plan.forward_layers == plan.backward_layers == 2

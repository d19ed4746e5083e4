"""The cut of a network into passes."""

import pytest
import torch

from msdtool.errors import DoesNotFit
from msdtool.ops.engine import BlockShape
from msdtool.ops.out_of_core.planner import Planner


def test_the_cheapest_cut_is_found() -> None:
    """No cut into equal passes costs less than the one that is chosen."""
    network = BlockShape(1, 1, tuple(range(1, 11)) * 4, "symmetric", 1, (1000, 1000))
    for strip_bytes in (2**23, 2**24, 2**26, 2**30):
        planner = Planner(network, strip_bytes, torch.empty(0))
        chosen = planner.passes()
        for count in (1, 2, 4, 5, 8, 10, 20, 40):
            steps = range(0, 40, 40 // count)
            parts = [range(first, first + 40 // count) for first in steps]
            equal = [planner.one(part) for part in parts]
            if None not in equal:
                costs = [sum(step.cost for step in plan) for plan in (chosen, equal)]
                assert costs[0] <= costs[1]
    assert len(chosen) == 1 and chosen[0].strip_slices == 1000


def test_little_memory_means_narrow_strips() -> None:
    network = BlockShape(1, 1, tuple(range(1, 11)) * 10, "symmetric", 1, (4096, 4096))
    passes = Planner(network, 2**28, torch.empty(0)).passes()
    assert [layer for step in passes for layer in step.layers] == list(range(100))
    for step in passes:
        strip = (step.strip_slices + 2 * step.halo) * 4096 * 4
        assert strip * network.channels_before(step.layers.stop) <= 2**28


def test_the_rest_of_the_layers_is_cut_as_the_whole_was() -> None:
    network = BlockShape(1, 1, tuple(range(1, 11)) * 10, "symmetric", 1, (4096, 4096))
    planner = Planner(network, 2**29, torch.empty(0))
    whole = planner.passes()
    assert len(whole) > 2
    assert planner.passes(whole[1].layers.start) == whole[1:]
    early = planner.passes(last_start=whole[-1].layers.start - 1)
    assert early[-1].layers.start < whole[-1].layers.start
    with pytest.raises(DoesNotFit, match="the memory limit leaves"):
        planner.passes(last_start=0)

"""What the compiled engine takes of memory; what it computes is tested in test_block.py."""

import pytest
import torch

from msdtool.ops.compiled import CompiledEngine
from msdtool.ops.engine import Network


def pitch(width: int, dtype: torch.dtype = torch.float32) -> int:
    return CompiledEngine(Network(1, 1, (1,)), (10, width), "symmetric", dtype).pitch


def test_rows_are_rounded_up_to_cache_lines() -> None:
    assert [pitch(width) for width in (1, 16, 17, 128, 129, 192)] == [16, 16, 32, 128, 144, 192]
    assert pitch(17, torch.float64) == 24


@pytest.mark.parametrize("width", [256, 384, 512, 1024, 2048])
def test_channels_do_not_compete_for_cache_sets(width: int) -> None:
    assert pitch(width) == width + 16


def test_rounding_takes_less_than_a_tenth() -> None:
    assert all(pitch(width) <= 1.1 * width for width in range(248, 5000))
    assert all(pitch(width) <= 1.14 * width for width in range(113, 248))

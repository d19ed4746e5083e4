"""How much memory the compiled engine takes; what it computes is tested in test_block.py."""

import pytest
import torch

from msdtool.errors import DoesNotFit
from msdtool.nn.memory import out_of_memory
from msdtool.ops.cpu import native
from msdtool.ops.cpu.native import CompiledEngine
from msdtool.ops.engine import BlockShape, Parameters


def pitch(width: int, dtype: torch.dtype = torch.float32) -> int:
    shape = BlockShape(1, 1, (1,), "symmetric", 1, (10, width))
    return CompiledEngine(shape, torch.empty(0, dtype=dtype)).pitch


def test_rows_are_rounded_up_to_cache_lines() -> None:
    assert [pitch(width) for width in (1, 16, 17, 128, 129, 192)] == [16, 16, 32, 128, 144, 192]
    assert pitch(17, torch.float64) == 24


@pytest.mark.parametrize("width", [256, 384, 512, 1024, 2048])
def test_channels_do_not_compete_for_cache_sets(width: int) -> None:
    assert pitch(width) == width + 16


def test_rounding_takes_less_than_a_tenth() -> None:
    assert all(pitch(width) <= 1.1 * width for width in range(248, 5000))
    assert all(pitch(width) <= 1.14 * width for width in range(113, 248))


def test_a_workspace_that_does_not_fit_is_an_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        """A library whose functions find no memory."""

        def msd_forward(self, *arguments: object) -> int:
            return 1

    monkeypatch.setattr(native, "load", lambda dtype: Full())
    shape = BlockShape(1, 1, (1,), "symmetric", 1, (4, 5))
    planes = torch.zeros(1, 4, 2, 16)
    parameters = Parameters([torch.zeros(1, 1, 3, 3)], torch.zeros(1))
    with pytest.raises(DoesNotFit, match="not enough memory for the workspace of msd_forw") as seen:
        CompiledEngine(shape, planes).forward(planes, parameters)
    assert out_of_memory(seen.value)


def test_the_compiled_engine_is_for_the_cpu() -> None:
    shape = BlockShape(1, 1, (1,), "symmetric", 1, (4, 5))
    with pytest.raises(ValueError, match=r'impl "compiled" computes on the CPU; .* on meta'):
        CompiledEngine(shape, torch.empty(0, device="meta"))

"""All tensors of a computation lie on one device, told without a GPU: torch's fake tensors have
shapes and a device but no values, and refuse to mix devices. "meta" stands for the GPU.
"""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from msdtool import ops
from msdtool.ops import operators
from msdtool.ops.cuda import launcher, product, taps
from msdtool.ops.cuda.sources import Source
from msdtool.ops.engines import KERNELS
from msdtool.ops.operators import autograd, compute

ELSEWHERE = torch.device("meta")


class Recorder:
    """Launches nothing, but looks where the tensors lie."""

    def __init__(self) -> None:
        self.launched: list[str] = []

    def obstacle(self, device: torch.device) -> str | None:
        return None

    def max_shared_bytes(self, device: torch.device) -> int:
        return 227 * 1024

    def launch(
        self,
        source: Source,
        function: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[launcher.Argument],
        shared_bytes: int,
    ) -> None:
        devices = {value.device for value in arguments if isinstance(value, Tensor)}
        assert devices == {ELSEWHERE}, f"{function} gets tensors on {devices}"
        assert len(grid) <= 3 and max(grid[1:], default=1) <= 65535
        self.launched.append(function)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Within FakeTensorMode."""
    recorder = Recorder()
    monkeypatch.setitem(launcher.LAUNCHERS, "meta", recorder)
    # The engines themselves, not what the operator tells of their results.
    for module in (operators, autograd, compute):
        monkeypatch.setattr(module, "is_plain", lambda *_: True)
    # What is made of numbers is no fake tensor, and fake ones must not be kept for later tests.
    monkeypatch.setattr(
        taps,
        "_on_device",
        lambda dilations, device: torch.empty(len(dilations), dtype=torch.int64, device=device),
    )
    monkeypatch.setattr(product, "taps_of", taps.Taps)
    monkeypatch.setattr(product, "_unpacking_on", product._unpacking_on.__wrapped__)
    with FakeTensorMode():
        yield recorder


def test_two_devices_are_not_mixed_unnoticed(recorder: Recorder) -> None:
    with pytest.raises(RuntimeError, match="at least two devices"):
        torch.mm(torch.empty(3, 3, device=ELSEWHERE), torch.empty(3, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("space", [(64, 70), (9, 10, 11)])
@pytest.mark.parametrize("impl", [*KERNELS, "torch", "reference"])
def test_a_step_stays_where_its_tensors_are(
    recorder: Recorder, impl: str, space: tuple[int, ...], dtype: torch.dtype
) -> None:
    def tensor(*shape: int) -> Tensor:
        return torch.empty(shape, device=ELSEWHERE, dtype=dtype).requires_grad_()

    weights = [tensor(1, 1 + layer, *(3,) * len(space)) for layer in range(9)]
    input, bias = tensor(2, 1, *space), tensor(9)
    final = tensor(2, 10, 1), tensor(2)
    output = ops.msd_module(input, weights, bias, *final, [1, 2, 3], impl=impl)
    grads = torch.autograd.grad(output.sum(), [input, bias, *final, *weights])
    assert {grad.device for grad in grads} == {ELSEWHERE}
    assert bool(recorder.launched) == (impl in KERNELS)

"""Which engine computes the strips, and the memory that the planner gives it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from msdtool import ops
from msdtool.errors import DoesNotFit
from msdtool.ops import engines
from msdtool.ops.cpu import native_build
from msdtool.ops.cpu.blocked import BlockedEngine
from msdtool.ops.cuda import launcher, product
from msdtool.ops.cuda.product import ProductEngine
from msdtool.ops.engine import WORKSPACE_BYTES, BlockShape
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from msdtool.ops.out_of_core.planner import Planner
from tests.ops.formula import largest_difference, make_problem
from tests.shim import ShimLauncher


class WorkingLauncher(ShimLauncher):
    """Says that kernels run on every device."""

    def obstacle(self, device: torch.device) -> str | None:
        return None


@pytest.mark.parametrize("padding", ["symmetric", "reflect", "zeros"])
@pytest.mark.parametrize(("dtype", "exact"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("space", [(47, 11), (23, 5, 6)])
def test_strips_on_a_gpu_are_computed_by_cuda_kernels(
    space: tuple[int, ...],
    dtype: torch.dtype,
    exact: float,
    padding: str,
    shim: ShimLauncher,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The CPU stands for the GPU, and the shim runs the kernels there."""
    monkeypatch.setattr(launcher, "preferred", lambda device: True)
    problem = make_problem(
        space, 9, width=2, c_in=2, c_out=2, dilations=(1, 2), padding=padding, dtype=dtype
    )
    image, *parameters = problem.module_arguments()
    pixels = image[0].detach().numpy()
    output = np.full((2, *space), np.nan, pixels.dtype)
    strip_bytes = 12 * 20 * 8 * int(np.prod(space[1:]))
    ops.msd_module_streamed(
        pixels, *parameters,
        output=output, memory_bytes=RESERVED_BYTES + strip_bytes, directory=tmp_path,
    )  # fmt: skip
    names = [function for _, function in shim.launched]
    front = "front_forward" if dtype == torch.float32 else "taps_gather"
    assert names.count(front) > 1 and "inner_forward" in names
    exact_problem = problem.to(torch.float64)
    expected = ops.msd_module(*exact_problem.module_arguments(), impl="reference")[0].detach()
    assert largest_difference(torch.from_numpy(output), expected) < exact


def test_the_choice_is_the_same_for_whole_images_and_strips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu, like = torch.device("cuda", 0), torch.empty(0, device="meta")
    shape = BlockShape(1, 1, (1, 2), "zeros", 1, (20, 20))
    assert engines.implementation_for(gpu, torch.float32) == "torch"
    assert engines.is_fallback(gpu, torch.float32)
    monkeypatch.setitem(launcher.LAUNCHERS, "cuda", WorkingLauncher())
    assert engines.implementation_for(gpu, torch.float32) == "cuda"
    assert not engines.is_fallback(gpu, torch.float32)
    monkeypatch.setattr(launcher, "preferred", lambda device: device.type == "meta")
    assert isinstance(engines.new_engine(shape, like), ProductEngine)
    monkeypatch.setattr(native_build, "available", lambda dtype: False)
    assert isinstance(engines.new_engine(shape, torch.empty(0)), BlockedEngine)


def test_a_strip_leaves_room_for_the_taps_of_wide_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 3D and double precision, the taps of a slice of 2000 x 2000 exceed the usual workspace."""
    monkeypatch.setattr(launcher, "preferred", lambda device: True)
    network = BlockShape(1, 1, (1, 1), "zeros", 1, (100, 2000, 2000))
    like = torch.empty(0, dtype=torch.float64, device="meta")
    slice_bytes = 8 * 2000 * 2000
    fixed = 27 * slice_bytes - WORKSPACE_BYTES
    least = fixed + 3 * (3 + 2) * slice_bytes  # three channels and two outputs of three slices
    (step, *_) = Planner(network, least, like).passes(1)
    assert step.strip_slices == 1
    with pytest.raises(DoesNotFit, match=rf"layer 1 needs at least {least}\b"):
        Planner(network, least - 1, like).passes(1)


def test_a_strip_has_no_more_pixels_than_the_kernels_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launcher, "preferred", lambda device: True)
    monkeypatch.setitem(launcher.LAUNCHERS, "cuda", WorkingLauncher())
    network = BlockShape(1, 1, (1, 1), "zeros", 1, (60_000, 60_000))
    (step, *_) = Planner(network, 2**50, torch.empty(0, device="meta")).passes()
    assert (step.strip_slices + 2 * step.halo) * 60_000 <= 2**31 - 1
    assert product.BLOCK_CHANNELS[2] >= 2 and step.layers == range(2)

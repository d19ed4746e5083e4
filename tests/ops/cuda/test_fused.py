"""The fused kernel, run on the CPU with tensor cores imitated: exact on integers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool import ops
from msdtool.border import PADDINGS
from msdtool.ops.cuda import fused, launcher, product
from msdtool.ops.cuda.convolution import compute_dtype
from msdtool.ops.cuda.fused import FusedEngine
from msdtool.ops.cuda.product import ProductEngine
from msdtool.ops.engine import BlockShape
from tests.ops.cuda.test_engines import DEVICES, check, on, run
from tests.ops.formula import largest_difference, make_problem, module_formula
from tests.shim import ShimLauncher


@pytest.fixture(autouse=True)
def use_shim(shim: ShimLauncher) -> ShimLauncher:
    return shim


def integers(*shape: int, largest: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).double()


def front_of(
    shape: BlockShape, engine_type: type[ProductEngine], dtype: torch.dtype, device: str = "cpu"
) -> Tensor:
    """What an engine makes of the channels before the last block, all integers.

    They are small enough for every type, and their sums for float32, so nothing is rounded.
    """
    planes = integers(shape.channels_before(shape.depth), shape.pixels, largest=8, seed=0)
    planes = planes.to(device, dtype)
    engine = engine_type(shape, planes)
    block = engine.blocks()[-1]
    num_rows = len(block) * shape.width * shape.num_taps
    rows = integers(num_rows, shape.channels_before(block.start), largest=4, seed=1)
    wide = compute_dtype(dtype)
    bias = integers(len(block) * shape.width, largest=9, seed=2).to(device, wide)
    stack = planes.new_empty(num_rows, engine.strip_slices * shape.slice_size, dtype=wide)
    planes[shape.channels(block)] = math.nan
    sums = torch.full((len(bias), shape.pixels), math.nan, dtype=wide, device=device)
    engine.convolve_front(planes, rows.to(device, dtype), bias, sums, block, stack)
    return sums.cpu()


def check_front(shape: BlockShape, dtype: torch.dtype, device: str = "cpu") -> None:
    expected = front_of(shape, ProductEngine, torch.float64, device)
    assert torch.equal(front_of(shape, FusedEngine, dtype, device).double(), expected)


@st.composite
def shapes(draw: st.DrawFn) -> BlockShape:
    space = (draw(st.integers(2, 40)), draw(st.integers(2, 80)))
    padding = draw(st.sampled_from(PADDINGS))
    limit = {"symmetric": min(space), "reflect": min(space) - 1, "zeros": 12}[padding]
    dilations = draw(st.lists(st.integers(1, min(limit, 12)), min_size=1, max_size=12))
    return BlockShape(
        draw(st.integers(1, 20)),
        draw(st.integers(1, 3)),
        tuple(dilations),
        padding,
        draw(st.integers(1, 2)),
        space,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", fused.STORAGES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(shape=shapes(), blocks_wanted=st.integers(1, 20))
def test_integers_come_out_exactly(
    dtype: torch.dtype, device: str, shape: BlockShape, blocks_wanted: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launcher.LAUNCHERS, "cpu", ShimLauncher())
        patch.setattr(fused, "BLOCKS_WANTED", blocks_wanted)
        check_front(shape, dtype, device)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_fronts_come_out_exactly(dtype: torch.dtype, padding: str) -> None:
    """Under the sanitizers, too."""
    check_front(BlockShape(3, 2, (1, 5, 2), padding, 1, (13, 70)), dtype)


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_is_as_right_as_tf32(device: str) -> None:
    problem = make_problem((21, 33), 12, dilations=(1, 2, 7)).to(torch.float32)
    expected = module_formula(problem.to(torch.float64)).detach()
    output = run(problem, "cuda-fused", device)[0]
    assert 1e-6 < largest_difference(output, expected) < 1e-3


@pytest.mark.parametrize("space", [(9, 11), (4, 6, 5)])
def test_where_the_kernel_cannot_serve_the_product_does(
    use_shim: ShimLauncher, space: tuple[int, ...]
) -> None:
    check(make_problem(space, 5, dilations=(1, 2)), "cuda-fused")
    assert "fused_forward" not in {function for _, function in use_shim.launched}


@pytest.mark.parametrize(("kilobytes", "columns"), [(227, 64), (163, 64), (99, 32), (48, None)])
def test_a_window_is_as_wide_as_shared_memory_allows(
    use_shim: ShimLauncher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kilobytes: int,
    columns: int | None,
) -> None:
    """That of an H100, of an A100, of compute capabilities 8.6, 8.9 and 12.0, of no such GPU."""
    fused._warn.cache_clear()
    monkeypatch.setattr(use_shim, "max_shared_bytes", lambda device: kilobytes * 1024)
    shape = BlockShape(3, 1, (1, 10, 2), "symmetric", 1, (13, 70))
    for _ in range(2):
        check_front(shape, torch.float32)
    used = [dict(s.defines)["COLUMNS"] for s, name in use_shim.launched if name == "fused_forward"]
    assert used == ([] if columns is None else [columns] * 2)
    told = [] if columns else [
        "layers of dilation 10 are computed by products instead of the fused kernel: it takes "
        "62464 bytes of shared memory, this GPU has 49152 for a block of threads"
    ]  # fmt: skip
    assert [record.message for record in caplog.records] == told


def test_layers_wider_than_the_kernel_take_the_product() -> None:
    like = torch.empty(0)
    assert FusedEngine(BlockShape(1, 8, (1, 2), "zeros", 1, (20, 20)), like).serves
    assert not FusedEngine(BlockShape(1, 9, (1, 2), "zeros", 1, (20, 20)), like).serves


def test_the_order_of_threads_changes_nothing(use_shim: ShimLauncher) -> None:
    problem = make_problem((20, 30), 9, dilations=(1, 6), dtype=torch.float32)
    results = []
    for order in (0, 1, 3):
        use_shim.order = order
        results.append(ops.msd_module(*problem.module_arguments(), impl="cuda-fused"))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_every_layer_of_a_network_is_launched_once(use_shim: ShimLauncher) -> None:
    problem = make_problem((20, 30), 10, dtype=torch.float32)
    with torch.no_grad():
        ops.msd_module(*problem.module_arguments(), impl="cuda-fused")
    names = [function for _, function in use_shim.launched]
    assert (names.count("fused_forward"), names.count("inner_forward")) == (2, 10)
    assert "taps_gather" not in names
    assert product.BLOCK_CHANNELS[2] <= fused.OUTPUTS


def test_bands_fill_a_gpu_unless_they_were_mostly_border() -> None:
    assert fused.band_rows(1024, 16, 10) == 61  # 17 bands of 16 strips
    assert fused.band_rows(64, 1, 10) == 64
    assert fused.band_rows(10, 500, 3) == 10


@pytest.mark.gpu
def test_shared_memory_beyond_the_default_is_granted() -> None:
    problem = on(make_problem((64, 200), 10, dilations=(1, 10), dtype=torch.float32), "cuda")
    assert fused.shared_bytes_for(10, 64) > launcher.DEFAULT_SHARED_BYTES
    exact = ops.msd_module(*problem.module_arguments(), impl="cuda")
    found = ops.msd_module(*problem.module_arguments(), impl="cuda-fused")
    assert largest_difference(found.detach(), exact.detach().double()) < 1e-3


def test_weights_are_rounded_to_the_nearest_tf32() -> None:
    """Ten bits after the first one, so half of the last is a relative 2 ** -11."""
    rows = torch.randn(72, 16)
    found, expected = fused.packed(rows).flatten().sort().values, rows.flatten().sort().values
    found = found[found != 0]
    assert torch.equal(found.view(torch.int32) & 0x1FFF, torch.zeros_like(found, dtype=torch.int32))
    relative = ((found - expected) / expected).abs()
    assert 0.9 * 2**-11 < relative.max() <= 2**-11


@pytest.mark.parametrize(
    "bits", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800001, 0xFF800001, 0x7F800000, 0xFF800000]
)
def test_what_is_not_finite_stays_so_when_rounded(bits: int) -> None:
    """A GPU's NaN is 0x7FFFFFFF; the tensor cores drop the last 13 bits of what they are given."""
    value = torch.tensor([bits - 2**32 if bits >= 2**31 else bits]).int().view(torch.float32)
    packed = fused.packed(value.expand(72, 8).contiguous()).flatten()
    found = (packed.view(torch.int32) & ~0x1FFF).view(torch.float32)
    assert (found.isnan() | (found == value)).sum() == 72 * 8
    assert found.isnan().any() == value.isnan().any()


def test_weights_that_a_gpu_made_nan_make_the_output_nan() -> None:
    problem = make_problem((12, 13), 10, dtype=torch.float32)
    with torch.no_grad():
        problem.weights[9].view(torch.int32)[0, 0, 1, 1] = 0x7FFFFFFF
        output = ops.msd_module(*problem.module_arguments(), impl="cuda-fused")
    assert output.isnan().all()

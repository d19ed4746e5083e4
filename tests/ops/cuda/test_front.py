"""The kernel for the channels in front of a block, run on the CPU with tensor cores imitated.

It is exact on whole numbers.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool import ops
from msdtool.border import PADDINGS
from msdtool.ops.cuda import front, launcher, product
from msdtool.ops.cuda.convolution import compute_dtype
from msdtool.ops.cuda.front import FrontEngine
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.cuda.product import ProductEngine
from msdtool.ops.engine import BlockShape
from tests.ops.cuda.test_engines import DEVICES, check, on, run
from tests.ops.formula import largest_difference, make_problem, module_formula
from tests.shim import ShimLauncher

MODES = [
    (torch.float32, "high"),
    (torch.float32, "highest"),
    (torch.float16, "highest"),
    (torch.bfloat16, "highest"),
]


@pytest.fixture(autouse=True)
def use_shim(shim: ShimLauncher) -> ShimLauncher:
    return shim


@contextmanager
def precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def whole(*shape: int, largest: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).double()


def front_of(
    engine: ProductEngine, block: range, largest: tuple[int, int], dtype: torch.dtype, device: str
) -> Tensor:
    """What an engine makes of the channels before a block, [k * width, B, *space].

    All are whole numbers, small enough for every type, and their sums for float32, so nothing is
    rounded. What the kernel must not use is NaN.
    """
    shape, layout = engine.shape, engine.layout
    m, wide = shape.channels_before(block.start), compute_dtype(dtype)
    planes = engine.new_planes(torch.empty(0, dtype=dtype, device=device)).fill_(math.nan)
    values = whole(shape.batch, m, *shape.space, largest=largest[0], seed=0)
    layout.images(planes)[:, :m] = values.to(device, dtype)
    of_front = BlockShape(m, 1, shape.dilations, shape.padding, shape.batch, shape.space)
    Layout(of_front, layout.halo).fill_halo(planes[:m])
    taps = (3,) * len(shape.space)
    weights = [
        whole(shape.width, shape.channels_before(layer), *taps, largest=largest[1], seed=layer)
        for layer in range(shape.depth)
    ]
    weights = [weight.to(device, dtype) for weight in weights]
    bias = whole(len(block) * shape.width, largest=9, seed=2).to(device, wide)
    sums = torch.full((len(bias), layout.plane), math.nan, dtype=wide, device=device)
    workspace = engine.new_workspace(planes, weights)
    engine.convolve_front(planes, weights, bias, sums, block, workspace)
    return layout.images(sums).transpose(0, 1).cpu().double()


def check_front(
    shape: BlockShape,
    dtype: torch.dtype,
    device: str = "cpu",
    largest: tuple[int, int] = (8, 4),
) -> None:
    engine = FrontEngine(shape, torch.empty(0, dtype=dtype, device=device))
    exact = ProductEngine(shape, torch.empty(0, dtype=torch.float64, device=device))
    block, exact.layers = engine.blocks()[-1], engine.layers
    expected = front_of(exact, block, largest, torch.float64, device)
    assert torch.equal(front_of(engine, block, largest, dtype, device), expected)


@st.composite
def shapes(draw: st.DrawFn) -> BlockShape:
    sizes = draw(st.sampled_from(((25, 150), (25, 150), (5, 7, 70))))
    space = tuple(draw(st.integers(2, size)) for size in sizes)
    padding = draw(st.sampled_from(PADDINGS))
    limit = {"symmetric": min(space), "reflect": min(space) - 1, "zeros": 25}[padding]
    dilations = draw(st.lists(st.integers(1, min(limit, 25)), min_size=1, max_size=14))
    return BlockShape(
        draw(st.integers(1, 35)),
        draw(st.integers(1, 3)),
        tuple(dilations),
        padding,
        draw(st.integers(1, 2)),
        space,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "mode"), MODES)
@settings(max_examples=7, deadline=None, derandomize=True)
@given(shape=shapes(), blocks_wanted=st.integers(1, 20))
def test_whole_numbers_come_out_exactly(
    dtype: torch.dtype, mode: str, device: str, shape: BlockShape, blocks_wanted: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, precision(mode):
        patch.setitem(launcher.LAUNCHERS, "cpu", ShimLauncher())
        patch.setattr(front, "BLOCKS_WANTED", blocks_wanted)
        check_front(shape, dtype, device)


@pytest.mark.parametrize(
    ("dtype", "mode", "padding"),
    [
        (torch.float32, "high", "symmetric"),
        (torch.float32, "highest", "zeros"),
        (torch.bfloat16, "highest", "reflect"),
    ],
)
def test_small_fronts_come_out_exactly(dtype: torch.dtype, mode: str, padding: str) -> None:
    """Under the sanitizers, too; five and eight outputs, channels that are no whole step."""
    with precision(mode):
        check_front(BlockShape(3, 1, (1, 5, 2, 4, 3), padding, 1, (7, 40)), dtype)
        check_front(BlockShape(5, 1, (1, 3, 2, 2, 1), padding, 2, (4, 5, 34)), dtype)
        check_front(BlockShape(11, 2, (1, 5, 2, 4), padding, 1, (6, 13)), dtype)


def test_full_precision_multiplies_more_than_tf32_holds() -> None:
    """Factors of 12 and of 8 bits: their last bits are in the second term; sums fit float32."""
    shape = BlockShape(5, 1, (1, 3), "symmetric", 1, (9, 21))
    with precision("highest"):
        check_front(shape, torch.float32, largest=(2**12 - 1, 2**5))
        check_front(shape, torch.float32, largest=(2**5, 2**12 - 1))
    with precision("high"), pytest.raises(AssertionError):
        check_front(shape, torch.float32, largest=(2**12 - 1, 2**5))


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_is_as_right_as_its_precision(device: str) -> None:
    problem = make_problem((21, 33), 12, dilations=(1, 2, 7)).to(torch.float32)
    expected = module_formula(problem.to(torch.float64)).detach()
    assert largest_difference(run(problem, "cuda", device)[0], expected) < 1e-6
    with precision("high"):
        assert 1e-6 < largest_difference(run(problem, "cuda", device)[0], expected) < 1e-3


@pytest.mark.parametrize("space", [(9, 11), (4, 6, 5)])
def test_where_the_kernel_cannot_serve_the_product_does(
    use_shim: ShimLauncher, space: tuple[int, ...]
) -> None:
    check(make_problem(space, 5, dilations=(1, 2)), "cuda")
    assert "taps_gather" in {function for _, function in use_shim.launched}
    assert "front_forward" not in {function for _, function in use_shim.launched}


# That of an H100, of compute capabilities 8.6, 8.9 and 12.0, of less.
@pytest.mark.parametrize(("kilobytes", "columns"), [(227, 104), (99, 104), (80, 56), (48, None)])
def test_a_strip_is_as_wide_as_shared_memory_allows(
    use_shim: ShimLauncher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kilobytes: int,
    columns: int | None,
) -> None:
    front._warn.cache_clear()
    front.columns_for.cache_clear()
    monkeypatch.setattr(use_shim, "max_shared_bytes", lambda device: kilobytes * 1024)
    shape = BlockShape(3, 1, tuple(range(1, 11)), "symmetric", 1, (13, 70))
    like = torch.empty(0)
    assert [FrontEngine(shape, like).columns for _ in range(2)] == [columns] * 2
    if columns:
        check_front(shape, torch.float32)
    told = [] if columns else [
        "networks of dilation 10 are computed by products instead of the kernel for tensor cores, "
        "which adds up the taps of at least 32 of 128 columns in shared memory; this GPU has 49152 "
        "bytes of it for a block of threads"
    ]  # fmt: skip
    assert [record.message for record in caplog.records] == told


def test_what_a_block_takes_of_shared_memory_is_there() -> None:
    """For every block, with what the kernel declares itself."""
    shape = BlockShape(3, 2, (4, 10, 1, 12, 12, 12, 12, 3), "zeros", 1, (40, 300))
    engine = FrontEngine(shape, torch.empty(0))
    assert engine.columns is not None
    most = max(front.ring_rows(shape, block) for block in engine.blocks())
    taken = front.TAPS_BYTES + 4 * engine.columns * most + front.OUTPUTS_BYTES
    assert taken <= launcher.max_shared_bytes(torch.device("cpu"))


def test_layers_the_kernel_has_no_room_for_take_the_product() -> None:
    like = torch.empty(0)

    def serves(width: int, dilation: int) -> bool:
        shape = BlockShape(1, width, (1, dilation), "zeros", 1, (200, 200))
        return FrontEngine(shape, like).columns is not None

    assert serves(8, 2) and not serves(9, 2)
    assert serves(1, 48) and not serves(1, 49)


def test_the_order_of_threads_changes_nothing(use_shim: ShimLauncher) -> None:
    problem = make_problem((20, 30), 9, dilations=(1, 6), dtype=torch.float32)
    results = []
    for order in (0, 1, 3):
        use_shim.order = order
        results.append(ops.msd_module(*problem.module_arguments(), impl="cuda"))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_blocks_begin_after_whole_groups_of_channels(use_shim: ShimLauncher) -> None:
    like = torch.empty(0)

    def blocks(c_in: int, width: int, depth: int) -> list[int]:
        shape = BlockShape(c_in, width, (1,) * depth, "zeros", 1, (8, 8))
        return [len(block) for block in FrontEngine(shape, like).blocks()]

    assert blocks(1, 1, 30) == [7, 8, 8, 7]
    assert blocks(8, 1, 20) == [8, 8, 4]
    assert blocks(2, 2, 9) == [3, 4, 2]
    assert blocks(1, 2, 9) == [4, 4, 1]  # an odd number of channels whatever the first one is
    assert blocks(1, 1, 3) == [3]


def test_every_block_is_launched_once(use_shim: ShimLauncher) -> None:
    problem = make_problem((20, 30), 10, dtype=torch.float32)
    with torch.no_grad():
        ops.msd_module(*problem.module_arguments(), impl="cuda")
    names = [function for _, function in use_shim.launched]
    assert {name: names.count(name) for name in names} == {
        "pack": 1, "front_forward": 2, "inner_forward": 10,
    }  # fmt: skip
    assert product.BLOCK_CHANNELS[2] <= front.OUTPUTS


def test_bands_fill_a_gpu_and_are_no_single_rows() -> None:
    assert front.band_rows(1024, 10) == 40  # 26 bands of 10 strips
    assert front.band_rows(256, 3) == 4
    assert front.band_rows(64, 1) == 4
    assert front.band_rows(3, 1) == 3
    assert front.band_rows(10, 500) == 10


@pytest.mark.gpu
def test_shared_memory_beyond_the_default_is_granted() -> None:
    problem = on(make_problem((64, 200), 10, dilations=(1, 10), dtype=torch.float32), "cuda")
    assert front.TAPS_BYTES > launcher.DEFAULT_SHARED_BYTES
    exact = run(problem.to(torch.float64), "cuda", "cuda")[0]
    assert largest_difference(run(problem, "cuda", "cuda")[0], exact) < 1e-5


def packed(weight: Tensor, mode: str) -> Tensor:
    """Weights [8, 8, 3, 3] of a layer after 8 channels, as the kernel reads them."""
    with precision(mode):
        shape = BlockShape(8, 8, (1,), "zeros", 1, (8, 8))
        engine = FrontEngine(shape, weight)
        return engine.new_workspace(engine.new_planes(weight), [weight])


def test_weights_are_rounded_to_the_nearest_tf32() -> None:
    """Ten bits after the first one, so half of the last is a relative 2 ** -11."""
    weight = torch.randn(8, 8, 3, 3)
    found, expected = packed(weight, "high"), weight.flatten().sort().values
    found = found[found != 0].sort().values
    assert torch.equal(found.view(torch.int32) & 0x1FFF, torch.zeros_like(found, dtype=torch.int32))
    relative = ((found - expected) / expected).abs()
    assert 0.9 * 2**-11 < relative.max() <= 2**-11


def test_the_two_terms_of_a_weight_add_up_to_it() -> None:
    weight = torch.randn(8, 8, 3, 3)
    first, second = packed(weight, "highest").view(-1, 2, 640).unbind(1)
    total = (first.double() + second.double()).flatten()
    found, expected = total[total != 0].sort().values, weight.double().flatten().sort().values
    assert ((found - expected) / expected).abs().max() < 2**-21


@pytest.mark.parametrize(
    "bits", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800001, 0xFF800001, 0x7F800000, 0xFF800000]
)
def test_what_is_not_finite_stays_so_when_rounded(bits: int) -> None:
    """A GPU's NaN is 0x7FFFFFFF; the tensor cores drop the last 13 bits of what they are given."""
    value = torch.tensor([bits - 2**32 if bits >= 2**31 else bits]).int().view(torch.float32)
    found = packed(value.expand(8, 8, 3, 3).contiguous(), "high")
    found = (found.view(torch.int32) & ~0x1FFF).view(torch.float32)
    assert (found.isnan() | (found == value)).sum() == 72 * 8
    assert found.isnan().any() == value.isnan().any()


@pytest.mark.parametrize("mode", ["high", "highest"])
def test_weights_that_a_gpu_made_nan_make_the_output_nan(mode: str) -> None:
    problem = make_problem((12, 13), 10, dtype=torch.float32)
    with torch.no_grad(), precision(mode):
        problem.weights[9].view(torch.int32)[0, 0, 1, 1] = 0x7FFFFFFF
        output = ops.msd_module(*problem.module_arguments(), impl="cuda")
    assert output.isnan().all()


@pytest.mark.parametrize("mode", ["high", "highest"])
def test_one_nan_reaches_the_pixels_of_its_taps_only(mode: str) -> None:
    """It spoils neither the columns beside it nor the strip behind it."""
    weight = torch.ones(1, 1, 3, 3)
    image = torch.ones(1, 1, 9, 130)
    image[0, 0, 4, 100] = math.nan
    with precision(mode):
        output = ops.msd_block(image, [weight], torch.zeros(1), [3], impl="cuda")
    found = output[0, 1].isnan().nonzero().tolist()
    assert found == [[y, x] for y in (1, 4, 7) for x in (97, 100, 103)]

"""The stack of taps, run on the CPU: exact on whole numbers, wherever its strips begin."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from msdtool import ops
from msdtool.border import PADDINGS
from msdtool.ops.cuda import back, front, inner, launcher, product, taps
from msdtool.ops.cuda.convolution import compute_dtype
from msdtool.ops.cuda.front import FrontEngine
from msdtool.ops.cuda.product import ProductEngine
from msdtool.ops.cuda.sources import STORAGES
from msdtool.ops.engine import BlockShape, Parameters, shape_of
from msdtool.ops.operators import passes
from tests.ops.cuda.test_engines import run
from tests.ops.cuda.test_inner import DEVICES, whole
from tests.ops.formula import make_problem, shifted
from tests.shim import ShimLauncher


@pytest.fixture(autouse=True)
def use_shim(shim: ShimLauncher) -> ShimLauncher:
    return shim


def shifts_of(space: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(torch.cartesian_prod(*[torch.tensor((-1, 0, 1))] * len(space)).tolist())


def gathered(shape: BlockShape, stack: Tensor) -> Tensor:
    """What a stack [outputs * taps, B * pixels] adds up to by the formula, one layer per output."""
    rows = []
    for output, dilation in enumerate(shape.dilations):
        images = stack[output * shape.num_taps : (output + 1) * shape.num_taps]
        planes = images.view(shape.num_taps, shape.batch, 1, *shape.space)
        rows.append(
            sum(
                shifted(plane, tuple(dilation * t for t in tap), shape.padding)
                for plane, tap in zip(planes, shifts_of(shape.space), strict=True)
            ).flatten()
        )
    return torch.stack(rows)


@st.composite
def shapes(draw: st.DrawFn) -> BlockShape:
    num_axes = draw(st.sampled_from((2, 2, 3)))
    space = tuple(draw(st.integers(2, size)) for size in ((70, 45), (6, 19, 37))[num_axes - 2])
    padding = draw(st.sampled_from(PADDINGS))
    limit = {"symmetric": min(space), "reflect": min(space) - 1, "zeros": min(space) + 2}[padding]
    dilations = draw(st.lists(st.integers(1, limit), min_size=1, max_size=4))
    return BlockShape(3, 1, tuple(dilations), padding, draw(st.integers(1, 3)), space)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=shapes(),
    strip_bytes=st.integers(1, 300_000),
    dtype=st.sampled_from((torch.float32, torch.float64)),
)
def test_whole_numbers_are_gathered_and_spread_exactly(
    device: str, shape: BlockShape, strip_bytes: int, dtype: torch.dtype
) -> None:
    """Spreading is the adjoint of gathering: <gather(stack), d> = <stack, spread(d)>."""
    outputs = shape.depth
    stack = whole(outputs * shape.num_taps, shape.pixels, largest=999, seed=0)
    bias, deltas = (
        whole(outputs, largest=9, seed=1),
        whole(outputs, shape.pixels, largest=9, seed=2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launcher.LAUNCHERS, "cpu", ShimLauncher())
        patch.setattr(product, "STRIP_BYTES", strip_bytes)
        engine = ProductEngine(shape, torch.empty(0, dtype=dtype, device=device))
        sums = torch.full_like(deltas, math.nan, dtype=dtype, device=device)
        grads = torch.full((3 + outputs, shape.pixels), math.nan, dtype=dtype, device=device)
        grads[3:] = deltas
        spread = torch.full_like(stack, math.nan)
        block = range(outputs)
        for first, stop in engine.strips():
            pixels = slice(first * shape.slice_size, stop * shape.slice_size)
            part = stack[:, pixels].clone().to(device, dtype)
            engine.taps.gather(part, bias.to(device, dtype), block, sums, first, stop)
            engine.taps.spread(grads[3:], block, part, first, stop)
            spread[:, pixels] = part.cpu().double()
    expected = gathered(shape, stack)
    assert torch.equal(sums.cpu().double(), expected + bias[:, None])
    assert (expected * deltas).sum() == (stack * spread).sum()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", list(STORAGES))
@pytest.mark.parametrize("space", [(40, 13), (9, 6, 5)])
def test_sums_are_rounded_nowhere(
    device: str, dtype: torch.dtype, space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers beyond those of 16-bit types, in several strips."""
    shape = BlockShape(5, 1, (1, 3, 2), "symmetric", 2, space)
    wide, num_rows = compute_dtype(dtype), 3 * shape.num_taps
    planes = whole(8, shape.pixels, largest=99, seed=0)
    weights = [
        whole(1, 5 + layer, *(3,) * len(space), largest=99, seed=1 + layer) for layer in range(3)
    ]
    rows = torch.cat([weight[0, :5].flatten(1).t() for weight in weights])
    bias = whole(3, largest=9, seed=2)
    expected = gathered(shape, rows @ planes[:5]) + bias[:, None]
    assert expected.abs().max() > 2**11
    monkeypatch.setattr(product, "STRIP_BYTES", 40_000)
    engine = ProductEngine(shape, planes.to(device, dtype))
    assert len(list(engine.strips())) > 2
    sums = torch.empty(3, shape.pixels, dtype=wide, device=device)
    engine.convolve_front(
        planes.to(device, dtype),
        [weight.to(device, dtype) for weight in weights],
        bias.to(device, wide),
        sums,
        range(3),
        torch.empty(num_rows, shape.pixels, dtype=wide, device=device),
    )
    assert torch.equal(sums.cpu().double(), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_storage_does_not_depend_on_strips(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem((40, 33), 12, dilations=(1, 2, 9)).to(dtype)
    found = []
    for strip_bytes in (2**24, 30_000):
        monkeypatch.setattr(product, "STRIP_BYTES", strip_bytes)
        with torch.no_grad():
            found.append(ops.msd_module(*problem.module_arguments(), impl="cuda"))
    assert torch.equal(*found)


def test_taps_beyond_float16_may_cancel(use_shim: ShimLauncher) -> None:
    """Each tap sums up to 80,000, more than float16 holds, and both to 0."""
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float16)
    weight[0, 0, 1, 0], weight[0, 0, 1, 2] = 400, -400
    image = torch.full((1, 1, 6, 7), 200.0, dtype=torch.float16)
    bias = torch.tensor([3.0], dtype=torch.float16)
    output = ops.msd_block(image, [weight], bias, [1], impl="cuda")
    assert torch.equal(output[:, 1:], torch.full_like(image, 3.0))


def test_strips_are_of_the_same_size() -> None:
    """Not thirteen strips of which the last has four rows."""
    engine = ProductEngine(BlockShape(1, 1, (1,) * 100, "zeros", 1, (1024, 1024)), torch.empty(0))
    sizes = [stop - first for first, stop in engine.strips()]
    assert len(sizes) == 13
    assert set(sizes) == {79, 76}


def test_images_larger_than_the_kernels_count_are_refused() -> None:
    shape = BlockShape(1, 1, (1,), "zeros", 1, (2**15, 2**15 + 1))
    engine = ProductEngine(shape, torch.empty(0))
    assert engine.max_slices == 2**15 - 1
    with pytest.raises(ValueError, match=r"images of 1073774592 pixels in a plane; .* 1073741823;"):
        engine.forward(torch.empty(0), None)


class Operations(TorchDispatchMode):
    """Counts torch's operations that launch kernels on a GPU."""

    VIEWS = frozenset({
        "view", "t", "transpose", "slice", "detach", "expand", "split", "unsqueeze", "squeeze",
        "_unsafe_view", "split_with_sizes", "new_empty", "empty", "empty_like", "promote_types",
        "alias", "lift_fresh",
    })  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ not in self.VIEWS:
            self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


class NoLauncher(ShimLauncher):
    """Counts launches without any."""

    def launch(self, source, function, *_) -> None:
        self.launched.append((source, function))


@pytest.mark.parametrize(
    ("space", "depth", "front_backs"), [((1024, 4), 100, (13, 12, 13)), ((4, 4, 4), 50, (21, 6, 7))]
)
def test_launches_of_a_step(
    space: tuple[int, ...],
    depth: int,
    front_backs: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of any image: depth 100 took 1,934 with products of strips, and with gradients that were
    added layer by layer. In 3D forward kernels are launched once for each plane of taps."""
    none = NoLauncher()
    monkeypatch.setitem(launcher.LAUNCHERS, "cpu", none)
    problem = make_problem(space, depth, dilations=(1, 2, 3, 4), dtype=torch.float32)
    _, _, bias, final_weight, final_bias, dilations, padding = problem.module_arguments()
    parameters = Parameters(problem.weights, bias, final_weight, final_bias)
    shape = shape_of(problem.input.shape, parameters, dilations, padding)
    needed = [False] + [True] * (3 + depth)

    def step() -> None:
        planes, output = passes.record(FrontEngine, shape, problem.input, parameters)
        passes.differentiate(FrontEngine, shape, planes, parameters, output, needed)

    with torch.no_grad():
        step()  # what is kept for all steps is made in the first
        none.launched.clear()
        with Operations() as operations:
            step()
    names = [function for _, function in none.launched]
    assert {name: names.count(name) for name in names} == {
        "pack": 2, "inner_forward": depth, "inner_backward": depth, "unpack": 1,
        **dict(zip(("front_forward", "back_input", "back_weight"), front_backs, strict=True)),
    }  # fmt: skip
    assert 20 <= len(operations.names) <= 23


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_arguments_are_made_once_for_a_shape(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def spy(*values: int) -> launcher.Constants:
        made.append(values)
        return launcher.constants(*values)

    monkeypatch.setattr(taps, "constants", spy)
    monkeypatch.setattr(inner, "constants", spy)
    monkeypatch.setattr(front, "constants", spy)
    monkeypatch.setattr(back, "constants", spy)
    back.back_of.cache_clear()
    taps.taps_of.cache_clear()
    inner.inner_layers_of.cache_clear()
    front.launches_of.cache_clear()
    problem = make_problem((17, 19), 10, dtype=dtype)
    first = run(problem)
    assert len(made) > 20
    made.clear()
    assert all(torch.equal(*pair) for pair in zip(run(problem), first, strict=True))
    assert made == []

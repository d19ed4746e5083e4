"""The kernels that transpose `front_forward`, run on the CPU with tensor cores imitated.

They are exact on whole numbers, and so are the identities of adjoints.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool import ops
from msdtool.border import PADDINGS
from msdtool.ops.cuda import back, launcher
from msdtool.ops.cuda.back import back_of
from msdtool.ops.cuda.front import FrontEngine
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.engine import BlockShape
from tests.ops.cuda.test_engines import DEVICES, run, upstream_of
from tests.ops.cuda.test_front import MODES, precision, whole
from tests.ops.cuda.test_product import shifts_of
from tests.ops.formula import largest_difference, make_problem, shifted
from tests.shim import ShimLauncher


@pytest.fixture(autouse=True)
def use_shim(shim: ShimLauncher) -> ShimLauncher:
    return shim


def convolved(shape: BlockShape, channels: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """A layer without bias and ReLU by the formula, [B, width, *space]."""
    total = torch.zeros(())
    for tap, step in enumerate(shifts_of(shape.space)):
        moved = shifted(channels, tuple(dilation * t for t in step), shape.padding)
        total = total + torch.einsum("oc,bc...->bo...", weight.flatten(2)[..., tap], moved)
    return total


class Case:
    """The last block of a network in whole numbers, and what its kernels make of them."""

    def __init__(
        self, shape: BlockShape, dtype: torch.dtype, device: str, largest: tuple[int, int, int]
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.engine = FrontEngine(shape, torch.empty(0, dtype=dtype, device=device))
        assert self.engine.source is not None
        self.block = self.engine.blocks()[-1]
        self.m = shape.channels_before(self.block.start)
        batch, space = shape.batch, shape.space
        taps = (3,) * len(space)
        self.channels = whole(batch, shape.num_channels, *space, largest=largest[0], seed=0)
        self.weights = [
            whole(shape.width, shape.channels_before(i), *taps, largest=largest[1], seed=1 + i)
            for i in range(shape.depth)
        ]
        outputs = len(self.block) * shape.width
        self.deltas = whole(batch, outputs, *space, largest=largest[2], seed=99)

    def planes(self, images: Tensor, dtype: torch.dtype, *, halo_of: int) -> Tensor:
        """Images [B, C, H, W] as planes; halos as for channels, of some, else zeros."""
        shape, layout = self.shape, self.engine.layout
        planes = layout.new_planes(torch.empty(0, dtype=dtype, device=self.device)).fill_(math.nan)
        layout.images(planes)[:, : images.shape[1]] = images.to(self.device, dtype)
        of_halo = BlockShape(halo_of, 1, shape.dilations, shape.padding, shape.batch, shape.space)
        Layout(of_halo, layout.halo).fill_halo(planes[: images.shape[1]])
        return planes

    def expected(self) -> tuple[Tensor, list[Tensor]]:
        """Gradients of the channels in front of the block, and of its weights."""
        before = self.channels[:, : self.m].requires_grad_()
        weights = [self.weights[layer].requires_grad_() for layer in self.block]
        front, full = [], []
        for layer, weight in zip(self.block, weights, strict=True):
            dilation, count = self.shape.dilations[layer], weight.shape[1]
            front.append(convolved(self.shape, before, weight[:, : self.m].detach(), dilation))
            full.append(convolved(self.shape, self.channels[:, :count].detach(), weight, dilation))
        (by_input,) = torch.autograd.grad(torch.cat(front, 1), before, self.deltas)
        return by_input, list(torch.autograd.grad(torch.cat(full, 1), weights, self.deltas))

    def found(self, lowest: int = 0) -> tuple[Tensor, list[Tensor]]:
        """The same by the kernels, which add to whole numbers that are there."""
        shape, engine, block = self.shape, self.engine, self.block
        blocks = tuple(engine.blocks())
        work = back_of(engine.layout, blocks, self.dtype, engine.terms, engine.device)
        planes = self.planes(self.channels.detach(), self.dtype, halo_of=shape.num_channels)
        start = whole(shape.batch, self.m, *shape.space, largest=9, seed=98)
        grads = self.planes(torch.cat((start, self.deltas), 1), torch.float32, halo_of=0)
        deltas, dilations = (
            grads[self.m : len(self.deltas[0]) + self.m],
            engine.taps.dilations_of(block),
        )
        weights = [weight.detach().to(self.device, self.dtype) for weight in self.weights]
        packed = work.pack(weights, lowest)
        work.add_to_input(deltas, dilations, block, packed, grads[lowest : self.m])
        parts = work.new_parts(block)
        parts[:, work.gradients.starts[block, 0] :] = math.nan
        work.add_to_weights(planes, deltas, dilations, block, parts)
        flat = torch.full((sum(map(torch.Tensor.numel, weights)),), 5.0, device=self.device)
        work.unpack(parts, flat)
        by_input = engine.layout.images(grads[: self.m]).cpu().double() - start
        pieces = (flat.cpu().double() - 5).split([weight.numel() for weight in weights])
        by_weight = [piece.view(w.shape) for piece, w in zip(pieces, weights, strict=True)]
        return by_input, by_weight[block.start : block.stop]


def check_back(
    shape: BlockShape,
    dtype: torch.dtype,
    device: str = "cpu",
    largest: tuple[int, int, int] = (8, 4, 9),
    lowest: int = 0,
) -> None:
    case = Case(shape, dtype, device, largest)
    (by_input, by_weights), (input, weights) = case.found(lowest), case.expected()
    input[:, :lowest] = 0
    assert torch.equal(by_input, input)
    assert all(torch.equal(*pair) for pair in zip(by_weights, weights, strict=True))


@st.composite
def shapes(draw: st.DrawFn) -> BlockShape:
    space = (draw(st.integers(2, 9)), draw(st.sampled_from((2, 5, 17, 33, 130))))
    if draw(st.booleans()):
        space = draw(st.integers(2, 4)), min(space[0], 4), min(space[1], 33)
    padding = draw(st.sampled_from(PADDINGS))
    limit = {"symmetric": min(space), "reflect": min(space) - 1, "zeros": 11}[padding]
    dilations = draw(st.lists(st.integers(1, limit), min_size=1, max_size=9))
    sizes = draw(st.integers(1, 20)), draw(st.integers(1, 3))
    return BlockShape(*sizes, tuple(dilations), padding, draw(st.integers(1, 2)), space)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "mode"), MODES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(shape=shapes(), blocks_wanted=st.integers(1, 9))
def test_whole_numbers_come_out_exactly(
    dtype: torch.dtype, mode: str, device: str, shape: BlockShape, blocks_wanted: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, precision(mode):
        patch.setitem(launcher.LAUNCHERS, "cpu", ShimLauncher())
        patch.setattr(back, "BLOCKS_WANTED", blocks_wanted)
        back_of.cache_clear()
        check_back(shape, dtype, device, lowest=min(1, shape.c_in - 1))
    back_of.cache_clear()


@pytest.mark.parametrize(
    ("dtype", "mode", "padding"),
    [
        (torch.float32, "high", "symmetric"),
        (torch.float32, "highest", "zeros"),
        (torch.bfloat16, "highest", "reflect"),
    ],
)
def test_small_backs_come_out_exactly(dtype: torch.dtype, mode: str, padding: str) -> None:
    """Under the sanitizers, too; five and eight outputs, one strip and a bit of another."""
    with precision(mode):
        check_back(BlockShape(3, 1, (1, 2, 1, 2, 1), padding, 1, (3, 130)), dtype)
        check_back(BlockShape(4, 1, (1, 2, 1, 3, 1), padding, 2, (4, 5, 6)), dtype)
        check_back(BlockShape(17, 2, (1, 5, 2, 4), padding, 1, (6, 13)), dtype)


def test_sums_for_weights_take_limited_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer parts of more rows the results are the same."""
    monkeypatch.setattr(back, "PARTS_BYTES", 3 * 4 * (14 + 18) * 72)
    back_of.cache_clear()
    shape = BlockShape(8, 1, (1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1), "symmetric", 1, (5, 13))
    with precision("high"):
        work = back_of(
            Layout(shape, 4), (range(7), range(7, 11)), torch.float32, 1, torch.device("cpu")
        )
        assert (work.num_parts, work.input_run[0]) == (3, 5)
        check_back(shape, torch.float32)
    back_of.cache_clear()


def test_several_blocks_of_threads_share_many_channels() -> None:
    with precision("high"):
        check_back(BlockShape(270, 1, (2,), "symmetric", 1, (3, 9)), torch.float32)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    ("width", "dilations", "space"),
    [(1, (1, 4, 2, 6, 3), (7, 31)), (2, (1, 5, 3, 2), (7, 31)), (1, (1, 4, 2, 3, 3), (5, 6, 17))],
)
def test_the_three_kernels_are_adjoint(
    width: int, dilations: tuple[int, ...], space: tuple[int, ...], padding: str
) -> None:
    """<front(Y), d> = <Y, dX(d)> = <W, dW(Y, d)>, exactly."""
    shape = BlockShape(8, width, dilations, padding, 2, space)
    with precision("high"):
        case = Case(shape, torch.float32, "cpu", (8, 4, 9))
        by_input, by_weights = case.found()
        engine, block, m = case.engine, case.block, case.m
        planes = case.planes(case.channels, torch.float32, halo_of=shape.num_channels)
        sums = torch.full((len(block) * width, engine.layout.plane), math.nan)
        weights = [weight.float() for weight in case.weights]
        workspace = engine.new_workspace(planes, weights)
        engine.convolve_front(planes, weights, torch.zeros(len(sums)), sums, block, workspace)
    product = (engine.layout.images(sums).double() * case.deltas).sum()
    assert product != 0
    assert (case.channels[:, :m] * by_input).sum() == product
    own = zip(case.weights[block.start :], by_weights, strict=True)
    assert sum((weight[:, :m] * grad[:, :m]).sum() for weight, grad in own) == product


@pytest.mark.parametrize("largest", [(2**12 - 1, 1, 7), (3, 2**12 - 1, 7), (3, 3, 2**12 - 1)])
def test_full_precision_multiplies_more_than_tf32_holds(largest: tuple[int, int, int]) -> None:
    """Factors of 12 bits and few: the last bit is in the second term; sums fit float32."""
    shape = BlockShape(5, 1, (1, 3), "symmetric", 1, (6, 21))
    with precision("highest"):
        check_back(shape, torch.float32, largest=largest)
    with precision("high"), pytest.raises(AssertionError):
        check_back(shape, torch.float32, largest=largest)


@pytest.mark.parametrize("mode", ["high", "highest"])
def test_one_nan_reaches_the_pixels_that_its_taps_read(mode: str) -> None:
    with precision(mode):
        case = Case(
            BlockShape(2, 1, (3,), "symmetric", 1, (9, 130)), torch.float32, "cpu", (1,) * 3
        )
        case.weights = [torch.ones_like(case.weights[0])]
        case.deltas[0, 0, 4, 100] = math.nan
        by_input, _ = case.found()
    places = [[y, x] for y in (1, 4, 7) for x in (97, 100, 103)]
    assert all(channel.isnan().nonzero().tolist() == places for channel in by_input[0])


def test_gradients_of_a_network_are_as_right_as_its_precision() -> None:
    """Far from the kinks of the ReLUs, which rounding would cross."""
    problem = make_problem((11, 19), 12, dilations=(1, 2, 7))
    with torch.no_grad():
        problem.bias += 9.0
    wanted = run(problem, "reference")[1:]
    for mode, least, most in (("highest", 0, 2e-6), ("high", 1e-5, 2e-3)):
        with precision(mode):
            found = run(problem.to(torch.float32))[1:]
        worst = max(
            largest_difference(one, other) / (1 + other.abs().max().item())
            for one, other in zip(found, wanted, strict=True)
        )
        assert least <= worst < most


def test_frozen_layers_are_left_out(use_shim: ShimLauncher) -> None:
    """Neither their gradients nor the products for them are made, and the others are the same."""
    problem = make_problem((7, 8), 9, dtype=torch.float32)
    _, *expected = run(problem)
    for leaf in (*problem.leaves()[:4], *problem.weights[:8]):
        leaf.requires_grad_(False)
    use_shim.launched.clear()
    output = ops.msd_module(*problem.module_arguments(), impl="cuda")
    output.backward(upstream_of(output).float())
    assert torch.equal(problem.weights[8].grad, expected[-1])
    names = [function for _, function in use_shim.launched]
    assert names.count("back_weight") == 1

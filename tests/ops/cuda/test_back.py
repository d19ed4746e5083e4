"""The kernels that transpose `front_forward`, run on the CPU with tensor cores imitated.

They are exact on whole numbers, and so are the identities of adjoints.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool.ops.cuda import back, launcher
from msdtool.ops.cuda.back import back_of
from msdtool.ops.cuda.front import FrontEngine
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.engine import BlockShape
from tests.ops.cuda.test_engines import DEVICES, run
from tests.ops.cuda.test_front import MODES, precision, shapes, whole
from tests.ops.formula import largest_difference, make_problem, shifted
from tests.shim import ShimLauncher


@pytest.fixture(autouse=True)
def use_shim(shim: ShimLauncher) -> ShimLauncher:
    return shim


def convolved(shape: BlockShape, channels: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """A layer without bias and ReLU by the formula, [B, width, H, W]."""
    total = torch.zeros(())
    for tap in range(9):
        step = (dilation * (tap // 3 - 1), dilation * (tap % 3 - 1))
        moved = shifted(channels, step, shape.padding)
        total = total + torch.einsum("oc,bcyx->boyx", weight.flatten(2)[..., tap], moved)
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
        self.channels = whole(batch, shape.num_channels, *space, largest=largest[0], seed=0)
        self.weights = [
            whole(shape.width, shape.channels_before(i), 3, 3, largest=largest[1], seed=1 + i)
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
            full.append(
                convolved(self.shape, self.channels[:, :count].detach(), weight, dilation)
            )
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
        deltas, dilations = grads[self.m : len(self.deltas[0]) + self.m], engine.taps.dilations_of(block)
        weights = [weight.detach().to(self.device, self.dtype) for weight in self.weights]
        packed = work.pack(weights, lowest)
        work.add_to_input(deltas, dilations, block, packed, grads[lowest : self.m])
        parts = work.new_parts().fill_(math.nan)
        work.add_to_weights(planes, deltas, dilations, block, parts)
        flat = torch.full((sum(map(torch.Tensor.numel, weights)),), 5.0, device=self.device)
        parts = parts.nan_to_num(0) if len(blocks) > 1 else parts  # of the other blocks
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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "mode"), MODES)
@settings(max_examples=7, deadline=None, derandomize=True)
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

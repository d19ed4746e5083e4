"""The layers inside a block, run on the CPU: exact on whole numbers."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool.border import PADDINGS
from msdtool.ops.cuda import inner, launcher
from msdtool.ops.cuda.convolution import compute_dtype
from msdtool.ops.cuda.inner import InnerLayers
from msdtool.ops.cuda.layout import Layout
from msdtool.ops.cuda.sources import STORAGES
from msdtool.ops.engine import BlockShape
from tests.ops.formula import shifted
from tests.shim import ShimLauncher

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def use_shim(shim: ShimLauncher) -> ShimLauncher:
    return shim


def whole(*shape: int, largest: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).double()


@dataclass(frozen=True)
class Layer:
    """A layer on whole numbers: sizes of the batch, channels it reads, channels it writes."""

    batch: int
    space: tuple[int, ...]
    c_in: int
    c_out: int
    dilation: int
    padding: str

    @property
    def shape(self) -> BlockShape:
        return BlockShape(
            self.c_in, self.c_out, (self.dilation,), self.padding, self.batch, self.space
        )

    def planes(self, channels: int, largest: int, seed: int) -> Tensor:
        """[channels, B * pixels]"""
        return whole(channels, self.shape.pixels, largest=largest, seed=seed)

    def images(self, planes: Tensor) -> Tensor:
        return planes.view(len(planes), self.batch, *self.space).transpose(0, 1)

    def weight(self) -> Tensor:
        taps = (3,) * len(self.space)
        return whole(self.c_out, self.c_in, *taps, largest=4, seed=1)

    def convolution(self, sources: Tensor) -> Tensor:
        """By the formula, tap by tap, on planes."""
        total = torch.zeros(self.c_out, self.shape.pixels, dtype=torch.float64)
        for tap in itertools.product((-1, 0, 1), repeat=len(self.space)):
            pixels = shifted(
                self.images(sources), tuple(self.dilation * t for t in tap), self.padding
            )
            weight = self.weight()[(..., *(t + 1 for t in tap))]
            total = total + torch.einsum("oj,bj...->ob...", weight, pixels).flatten(1)
        return total


def check_forward(layer: Layer, dtype: torch.dtype, device: str = "cpu") -> None:
    """Sums exceed what 16-bit types hold: only the result is rounded."""
    wide = compute_dtype(dtype)
    sources, sums = layer.planes(layer.c_in, 8, 0), layer.planes(layer.c_out, 999, 2)
    expected = (sums + layer.convolution(sources)).clamp(min=0).to(dtype)
    output = torch.full_like(sums, torch.nan, dtype=dtype, device=device)
    weight = whole(layer.c_out, 2, *(3,) * len(layer.space), largest=9, seed=5)
    weight = torch.cat([weight, layer.weight()], 1).to(device, dtype)[:, 2:]  # of a larger tensor
    if dtype == wide:
        output.copy_(sums)
        sums_there = output  # in place
    else:
        sums_there = sums.to(device, wide)
    InnerLayers(Layout(layer.shape), dtype).forward(
        sources.to(device, dtype), weight, sums_there, output, layer.dilation
    )
    assert torch.equal(output.cpu(), expected)


def check_backward(layer: Layer, dtype: torch.dtype, device: str = "cpu") -> None:
    """Gradients are the formula's by autograd, and stop where the last channel is not positive."""
    wide = compute_dtype(dtype)
    sources = layer.planes(layer.c_in, 8, 0).requires_grad_()
    deltas, before = layer.planes(layer.c_out, 8, 3), layer.planes(layer.c_in, 99, 4)
    (expected,) = torch.autograd.grad(layer.convolution(sources), sources, deltas)
    expected = expected + before
    complete = sources.detach()[-1:]
    expected[-1:][complete <= 0] = 0
    grads = before.to(device, wide)
    InnerLayers(Layout(layer.shape), dtype).backward(
        layer.weight().to(device, dtype),
        deltas.to(device, wide),
        grads,
        complete.to(device, dtype),
        layer.dilation,
    )
    assert torch.equal(grads.cpu().double(), expected)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    num_axes = draw(st.sampled_from((2, 2, 3)))
    padding = draw(st.sampled_from(PADDINGS))
    # Beyond the columns of a warp, and the rows of a thread and of a block.
    largest = ((70, 45), (6, 21, 37))[num_axes - 2]
    space = tuple(draw(st.integers(2, size)) for size in largest)
    limit = {"symmetric": min(space), "reflect": min(space) - 1, "zeros": min(space) + 2}[padding]
    c_out = draw(st.integers(1, 4))
    return Layer(
        draw(st.integers(1, 2)),
        space,
        draw(st.integers(1, inner.MAX_PAIRS // c_out)),
        c_out,
        draw(st.integers(1, limit)),
        padding,
    )


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(layer=layers(), dtype=st.sampled_from(list(STORAGES)))
def test_whole_numbers_come_out_exactly(device: str, layer: Layer, dtype: torch.dtype) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launcher.LAUNCHERS, "cpu", ShimLauncher())
        check_forward(layer, dtype, device)
        check_backward(layer, dtype, device)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("space", [(13, 35), (5, 6, 7)])
def test_small_layers_come_out_exactly(space: tuple[int, ...], padding: str) -> None:
    """The dilation is as large as the border rule allows."""
    layer = Layer(2, space, 3, 2, min(space) - (padding == "reflect"), padding)
    for dtype in (torch.float32, torch.bfloat16):
        check_forward(layer, dtype)
        check_backward(layer, dtype)


def test_more_slices_than_a_grid_has_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner, "MAX_GRID_Z", 2)
    for space in ((5, 6), (3, 5, 6)):
        layer = Layer(5, space, 2, 1, 2, "symmetric")
        check_forward(layer, torch.float32)
        check_backward(layer, torch.float32)


@pytest.mark.parametrize("padding", PADDINGS)
def test_backward_is_the_adjoint(padding: str) -> None:
    """<A x, y> = <x, A^T y> in whole numbers, where no ReLU stops anything."""
    layer = Layer(2, (9, 11), 3, 2, 4, padding)
    x, y = layer.planes(3, 8, 0).abs() + 1, layer.planes(2, 8, 1)
    grads = torch.zeros_like(x)
    layers = InnerLayers(Layout(layer.shape), torch.float64)
    layers.backward(layer.weight(), y, grads, x[2:], layer.dilation)
    output = torch.empty_like(y)
    layers.forward(x, layer.weight(), torch.full_like(y, 1e6), output, layer.dilation)
    assert ((output - 1e6) * y).sum() == (x * grads).sum()


def test_a_gradient_stops_where_the_output_is_not_positive() -> None:
    """Where it is NaN it passes, as in torch."""
    outputs = torch.tensor([[1.0, 0.0, -1.0, torch.nan, torch.inf, -0.0]])
    grads = torch.arange(1.0, 7.0)[None]
    shape = BlockShape(1, 1, (1,), "symmetric", 1, (2, 3))
    InnerLayers(Layout(shape), torch.float32).complete(grads, outputs)
    assert grads.tolist() == [[1.0, 0.0, 0.0, 4.0, 5.0, 0.0]]


def test_nan_stays_nan() -> None:
    layer = Layer(1, (7, 8), 1, 1, 2, "symmetric")
    sources = layer.planes(1, 8, 0)
    sources[0, 20] = torch.nan
    output = torch.empty_like(sources)
    InnerLayers(Layout(layer.shape), torch.float64).forward(
        sources, layer.weight(), layer.planes(1, 9, 2), output, layer.dilation
    )
    assert torch.equal(output.isnan(), layer.convolution(sources).isnan())

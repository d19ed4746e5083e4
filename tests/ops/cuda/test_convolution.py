"""The convolution kernels, run on the CPU: against gathered pixels, as adjoints, in any order."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msdtool.border import PADDINGS
from msdtool.ops.cuda import convolution, launcher
from msdtool.ops.cuda.convolution import Geometry, compute_dtype
from tests import shim as kernel_shim
from tests.ops.formula import shifted

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
FIRST, LAST = 2, 1  # channels of the buffers before and after a slice


@pytest.fixture(autouse=True)
def use_shim(shim: kernel_shim.ShimLauncher) -> kernel_shim.ShimLauncher:
    return shim


@dataclass
class Case:
    """A convolution in float64, its result by the formula, and the gradients of one upstream."""

    input: Tensor
    weight: Tensor
    bias: Tensor
    geometry: Geometry
    relu: bool

    def formula(self) -> Tensor:
        """Tap by tap, with gathered pixels."""
        num_axes = self.input.dim() - 2
        size, stride = self.weight.shape[-1], self.geometry.stride
        total = self.bias.view(1, -1, *(1,) * num_axes)
        for tap in itertools.product(range(size), repeat=num_axes):
            shifts = tuple(self.geometry.dilation * (t - size // 2) for t in tap)
            pixels = shifted(self.input, shifts, self.geometry.padding)
            total = total + torch.einsum("oj,bj...->bo...", self.weight[(..., *tap)], pixels)
        total = total[(..., *(slice(None, None, stride),) * num_axes)]
        return total.clamp(min=0) if self.relu else total

    def leaves(self) -> list[Tensor]:
        return [self.input, self.weight, self.bias]

    def expected(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Output, an upstream gradient, and the gradients by input, weight and bias."""
        output = self.formula()
        upstream = torch.randn(output.shape, dtype=torch.float64)
        return output, upstream, list(torch.autograd.grad(output, self.leaves(), upstream))


def make_case(
    space: tuple[int, ...],
    geometry: Geometry,
    c_in: int = 2,
    c_out: int = 2,
    batch: int = 2,
    size: int = 3,
    relu: bool = True,
    seed: int = 0,
) -> Case:
    torch.manual_seed(seed)
    shapes = (batch, c_in, *space), (c_out, c_in, *(size,) * len(space)), (c_out,)
    leaves = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    return Case(*leaves, geometry, relu)


def in_a_slice(values: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """A buffer with more channels, all of one value, and the slice of it that holds the values."""
    batch, channels, *space = values.shape
    buffer = values.new_full((batch, FIRST + channels + LAST, *space), fill)
    part = buffer[:, FIRST : FIRST + channels]
    part.copy_(values)
    return buffer, part


def run(
    case: Case, dtype: torch.dtype, upstream: Tensor, device: str = "cpu"
) -> tuple[Tensor, list[Tensor]]:
    """The kernels' output and gradients, everything in slices of larger buffers."""
    wide = compute_dtype(dtype)
    input, weight, bias = (leaf.detach().to(device, dtype) for leaf in case.leaves())
    upstream = upstream.to(device)
    _, source = in_a_slice(input, torch.nan)
    target, output = in_a_slice(upstream.to(dtype), 7.0)
    convolution.forward(source, weight, bias, output, case.geometry, relu=case.relu)
    assert (target[:, :FIRST] == 7).all() and (target[:, -LAST:] == 7).all()
    mask = output if case.relu else None
    _, grads = in_a_slice(upstream.to(wide), torch.nan)
    buffer, by_input = in_a_slice(torch.ones_like(input, dtype=wide), 7.0)
    convolution.backward_input(weight, mask, grads, by_input, case.geometry)
    assert (buffer[:, :FIRST] == 7).all() and (buffer[:, -LAST:] == 7).all()
    by_weight, by_bias = convolution.backward_weight(
        source, weight.shape, mask, grads, case.geometry
    )
    return output.cpu(), [grad.cpu() for grad in (by_input - 1, by_weight, by_bias)]


def largest_difference(actual: Tensor, expected: Tensor) -> float:
    """Relative to the largest expected value."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().clamp(min=1e-30)
    return ((actual.double() - expected).abs().max() / scale).item()


def check(case: Case, device: str = "cpu", tolerance: float = 1e-12) -> None:
    output, upstream, gradients = case.expected()
    found, found_gradients = run(case, torch.float64, upstream, device)
    assert largest_difference(found, output.detach()) < tolerance
    for name, gradient, wanted in zip(
        ("input", "weight", "bias"), found_gradients, gradients, strict=True
    ):
        assert largest_difference(gradient, wanted) < tolerance, name


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num_axes = draw(st.sampled_from((2, 2, 3)))
    size = draw(st.sampled_from((1, 3, 3, 5))) if num_axes == 2 else 3
    padding = draw(st.sampled_from(PADDINGS))
    reach = max(1, size // 2)
    smallest = reach + (padding == "reflect")
    space = tuple(
        draw(st.integers(smallest, (14, 7)[num_axes - 2] + smallest)) for _ in range(num_axes)
    )
    limit = {"symmetric": min(space), "reflect": min(space) - 1, "zeros": max(space) + 2}[padding]
    geometry = Geometry(
        padding, draw(st.integers(1, 3)), draw(st.integers(1, max(1, limit // reach)))
    )
    return make_case(
        space,
        geometry,
        draw(st.integers(1, 9)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 2)),
        size,
        draw(st.booleans()),
        draw(st.integers(0, 1000)),
    )


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=cases())
def test_any_convolution_equals_the_formula(device: str, case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launcher.LAUNCHERS, "cpu", kernel_shim.ShimLauncher())
        check(case, device)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("space", [(13, 17), (5, 6, 7)])
def test_small_cases_equal_the_formula(space: tuple[int, ...], padding: str) -> None:
    """Under the sanitizers, too."""
    check(make_case(space, Geometry(padding, 1, min(space) - 1), c_in=9))


def test_many_pixels_are_summed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "PIXELS_PER_CHUNK", 300)
    check(make_case((23, 31), Geometry("symmetric", 1, 3)))


def test_more_channels_than_a_grid_has_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "MAX_GRID_Y", 2)
    check(make_case((6, 7), Geometry("reflect", 1, 2), c_in=19, c_out=3))


@pytest.mark.parametrize("num_axes", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_precision_is_that_of_the_storage(device: str, dtype: torch.dtype, num_axes: int) -> None:
    """Inputs are rounded, sums are not: what is left is the rounding of the output."""
    case = make_case((7, 6, 5)[:num_axes], Geometry("symmetric", 1, 2), c_in=12)
    rounded = [leaf.detach().to(dtype).double().requires_grad_() for leaf in case.leaves()]
    case = Case(*rounded, case.geometry, case.relu)
    output, upstream, _ = case.expected()
    found, gradients = run(case, dtype, upstream, device)
    assert largest_difference(found, output.detach()) < 0.6 * torch.finfo(dtype).eps + 1e-6
    # Where rounding makes an output zero, the ReLU passes no gradient.
    delta = torch.where(found.double() > 0, upstream, 0)
    plain = Case(*case.leaves(), case.geometry, relu=False)
    wanted = torch.autograd.grad(plain.formula(), case.leaves(), delta)
    for gradient, one_wanted in zip(gradients, wanted, strict=True):
        assert largest_difference(gradient, one_wanted) < 2e-6


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("space", "stride"), [((7, 9), 1), ((8, 5), 2), ((4, 5, 3), 1)])
def test_backward_is_the_adjoint(space: tuple[int, ...], stride: int, padding: str) -> None:
    """<A x, y> = <x, A^T y>, and the same for the weight."""
    case = make_case(space, Geometry(padding, stride, 2), relu=False)
    case.bias = torch.zeros_like(case.bias)
    y = torch.randn_like(case.formula())
    output, (by_input, by_weight, by_bias) = run(case, torch.float64, y)
    product = (output * y).sum().item()
    assert (case.input * by_input).sum().item() == pytest.approx(product, rel=1e-12)
    assert (case.weight * by_weight).sum().item() == pytest.approx(product, rel=1e-12)
    assert torch.allclose(by_bias, y.flatten(2).sum((0, 2)), rtol=1e-12)


def test_the_order_of_threads_changes_nothing(use_shim: kernel_shim.ShimLauncher) -> None:
    case = make_case((19, 21), Geometry("symmetric", 1, 3), c_in=3)
    _, upstream, _ = case.expected()
    results = []
    for order in (0, 1, 5):
        use_shim.order = order
        output, gradients = run(case, torch.float32, upstream)
        results.append([output, *gradients])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_nan_stays_nan() -> None:
    case = make_case((6, 6), Geometry("symmetric", 1, 1), batch=1)
    with torch.no_grad():
        case.input[0, 0, 2, 2] = torch.nan
    output, upstream, gradients = case.expected()
    found, (by_input, *_) = run(case, torch.float64, upstream)
    assert torch.equal(found.isnan(), output.isnan())
    assert torch.equal(by_input.isnan(), gradients[0].isnan())


@pytest.mark.skipif(kernel_shim.SANITIZE in __import__("os").environ, reason="starts itself")
def test_no_kernel_reads_or_writes_outside_of_memory() -> None:
    here = __file__
    output, findings = kernel_shim.sanitized(
        f"{here}::test_small_cases_equal_the_formula",
        here.replace("convolution", "engines") + "::test_small_networks_equal_the_formula",
        here.replace("convolution", "front") + "::test_small_fronts_come_out_exactly",
        here.replace("convolution", "back") + "::test_small_backs_come_out_exactly",
        "-k",
        "not high-symmetric",  # which touches nothing that three terms do not touch
    )
    assert not findings, output


def test_more_pixels_than_the_kernels_count_are_refused() -> None:
    huge = torch.empty(1).expand(2, 1, 40_000, 40_000)
    with pytest.raises(ValueError, match=r"images of 3200000000 pixels together; .* 2147483647"):
        convolution.forward(
            huge, torch.ones(1, 1, 3, 3), None, huge, Geometry("symmetric"), relu=False
        )

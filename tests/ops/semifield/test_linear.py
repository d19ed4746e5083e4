"""The way through a linear convolution: accurate, or not taken."""

import math

import pytest
import torch

from msdtool.nn.semifield import SubtractSemifield
from msdtool.ops.semifield import Convolution, conv, subtract_conv
from msdtool.ops.semifield.linear import root_of_sum

SAME = Convolution(padding="same")


def images(spread: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A dark and a bright half that differ by ``spread``, and a kernel."""
    generator = torch.Generator().manual_seed(0)
    img = torch.rand(1, 2, 9, 40, generator=generator, dtype=torch.float64)
    img[..., 20:] -= spread
    kernel = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64)
    return img.to(dtype), kernel.to(dtype)


@pytest.mark.parametrize("mu", [0.5, 3.0, -3.0])
@pytest.mark.parametrize("spread", [0.0, 10.0, 28.0, 30.0, 32.0, 40.0, 1e2, 230.0, 1e3, 1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_is_right_however_much_the_values_differ(dtype, spread, mu):
    semifield = SubtractSemifield.log(mu)
    img, kernel = images(spread, dtype)
    img, kernel = img.requires_grad_(), kernel.requires_grad_()
    found = subtract_conv(img, kernel, semifield, SAME)
    found_grads = torch.autograd.grad(found.sum(), (img, kernel))
    exact_img, exact_kernel = img.detach().double(), kernel.detach().double()
    exact_img, exact_kernel = exact_img.requires_grad_(), exact_kernel.requires_grad_()
    exact = subtract_conv(exact_img, exact_kernel, semifield, SAME, "reference")
    exact_grads = torch.autograd.grad(exact.sum(), (exact_img, exact_kernel))
    # Values of this size cannot be told apart more finely, and mu multiplies what is rounded.
    rounding = torch.finfo(dtype).eps * max(spread, 1)
    assert (found - exact).abs().max() < 20 * rounding
    for left, right in zip(found_grads, exact_grads, strict=True):
        assert (left - right).abs().max() < 200 * rounding * max(abs(mu), 1)


@pytest.mark.parametrize(("spread", "taken"), [(0.0, True), (150.0, True), (1e3, False)])
def test_log_goes_by_terms_only_where_float64_underflows(monkeypatch, spread, taken):
    called = []
    monkeypatch.setattr(conv, "subtract_by_terms", lambda img, *_: called.append(1) or img)
    subtract_conv(*images(spread, torch.float32), SubtractSemifield.log(2.0), SAME)
    assert taken is not bool(called)


def test_nothing_but_an_infinite_image_is_infinite():
    img = torch.full((1, 1, 5), -math.inf)
    img[0, 0, 4] = 1.0
    output = subtract_conv(img, torch.zeros(1, 1, 3), SubtractSemifield.log(1.0), SAME)
    assert output[0, 0].tolist() == [-math.inf] * 3 + [1, 1]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_the_gradient_of_a_sum_of_zeros_is_zero(p):
    img, kernel = torch.zeros(1, 1, 6), torch.ones(1, 1, 3)
    img[0, 0, 5] = 2.0
    for impl in ("linear", "torch"):
        img.grad, kernel.grad = None, None
        semifield = SubtractSemifield.root(p)
        output = subtract_conv(img.requires_grad_(), kernel.requires_grad_(), semifield, SAME, impl)
        output.sum().backward()
        assert img.grad[0, 0, :3].tolist() == [0, 0, 0]
        assert img.grad.isfinite().all()
        assert kernel.grad[0, 0].tolist() == pytest.approx([2, 2, 0])


def test_roots_by_their_definition():
    total = torch.tensor([0.0, 1.0, 8.0, 27.0], dtype=torch.float64)
    assert root_of_sum(total, 3.0).tolist() == pytest.approx([0, 1, 2, 3])
    assert root_of_sum(total, -1.0).tolist() == pytest.approx([math.inf, 1, 1 / 8, 1 / 27])


def test_a_negative_root_is_the_parallel_sum():
    """1 / (1/a + 1/b + ...), as of resistors; outside of the image there is none."""
    img = torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64)
    output = subtract_conv(
        img, torch.ones(1, 1, 3, dtype=torch.float64), SubtractSemifield.root(-1.0), SAME
    )
    assert output[0, 0].tolist() == pytest.approx([1 / 1.5, 1 / 1.75, 1 / 0.75])


@pytest.mark.parametrize("p", [0.5, 3.0])
def test_a_product_of_negative_factors_has_its_power(p):
    img, kernel = (
        -values for values in (torch.rand(1, 1, 6).double(), torch.rand(1, 1, 3).double())
    )
    output = subtract_conv(img, kernel, SubtractSemifield.root(p), Convolution(kind="corr"))
    terms = (img[0, 0].unfold(0, 3, 1) * kernel[0, 0]) ** p
    torch.testing.assert_close(output[0, 0], terms.sum(1) ** (1 / p))

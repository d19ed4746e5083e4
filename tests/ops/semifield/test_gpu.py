"""The kernels, run on the CPU by the shim, and on a GPU where there is one."""

import os

import pytest
import torch
from torch import Tensor

from msdtool.nn.semifield import SelectSemifield, SubtractSemifield
from msdtool.ops.cuda import launcher
from msdtool.ops.semifield import Convolution, gpu, select_conv, subtract_conv
from tests import shim as kernel_shim

SEMIFIELDS = (
    SelectSemifield.tropical_max(),
    SelectSemifield.tropical_min_negated(),
    SubtractSemifield.linear(),
    SubtractSemifield.root(2.5),
    SubtractSemifield.root(-1.5),
    SubtractSemifield.log(2.0),
    SubtractSemifield.log(-3.0),
)
# Odd sizes, more pixels than a block, more terms than a byte counts.
PROBLEMS = {
    "1d": ((2, 2, 13), (4, 2, 3), Convolution(3, 4, 2)),
    "2d": (
        (2, 4, 19, 17),
        (6, 2, 3, 4),
        Convolution((2, 1), ((1, 2), (3, -1)), (1, 2), groups=2, kind="corr"),
    ),
    "3d": ((1, 2, 5, 6, 7), (3, 2, 3, 2, 3), Convolution(padding="same")),
    "many": ((1, 60, 5, 4), (2, 30, 3, 3), Convolution(2, 1, groups=2, group_broadcasting=True)),
}
TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5}


def results(semifield, problem: str, dtype: torch.dtype, impl: str, device: str = "cpu"):
    """The output and both gradients."""
    shape, kernel_shape, convolution = PROBLEMS[problem]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        values = torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.3
        return values.to(device, dtype)

    img, kernel = draw(*shape).requires_grad_(), draw(*kernel_shape).requires_grad_()
    compute = select_conv if isinstance(semifield, SelectSemifield) else subtract_conv
    output = compute(img, kernel, semifield, convolution, impl)
    upstream = torch.where(output.isfinite(), draw(*output.shape) - 0.8, 0)
    return output.detach(), *torch.autograd.grad(output, (img, kernel), upstream)


def assert_parity(semifield, problem: str, dtype: torch.dtype, device: str = "cpu") -> None:
    found = results(semifield, problem, dtype, "cuda", device)
    expected = results(semifield, problem, dtype, "reference")
    for left, right in zip(found, expected, strict=True):
        scale = right[right.isfinite()].abs().max()
        difference = (left.cpu() - right)[right.isfinite()].abs().max()
        assert difference <= TOLERANCES[dtype] * scale
        assert torch.equal(left.cpu().isfinite(), right.isfinite())


@pytest.mark.parametrize(
    ("semifield", "problem"),
    [
        *((semifield, "2d") for semifield in SEMIFIELDS),
        *((SEMIFIELDS[index], problem) for index in (0, 5) for problem in ("1d", "3d", "many")),
    ],
    ids=lambda value: getattr(value, "cache_name", value),
)
def test_kernels_equal_the_reference(shim, semifield, problem):
    assert_parity(semifield, problem, torch.float64)
    assert {name for _, name in shim.launched} == {
        "semifield_forward", "semifield_backward_img", "semifield_backward_kernel",
    }  # fmt: skip


@pytest.mark.parametrize("semifield", SEMIFIELDS[::5], ids=lambda semifield: semifield.cache_name)
def test_kernels_equal_the_reference_in_float32(shim, semifield):
    assert_parity(semifield, "2d", torch.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("semifield", SEMIFIELDS, ids=lambda semifield: semifield.cache_name)
def test_kernels_equal_the_reference_on_a_gpu(semifield, problem, dtype):
    assert_parity(semifield, problem, dtype, "cuda")


def test_the_order_of_threads_changes_no_bit(shim, monkeypatch):
    """Neither do chunks that one block sums up change more than the rounding."""
    monkeypatch.setattr(gpu, "MIN_CHUNK", 50)
    for semifield in (SEMIFIELDS[0], SEMIFIELDS[5]):
        first = results(semifield, "2d", torch.float64, "cuda")
        shim.order = 3
        for left, right in zip(results(semifield, "2d", torch.float64, "cuda"), first, strict=True):
            assert torch.equal(left, right)
        assert_parity(semifield, "2d", torch.float64)


def test_winners_are_kept_only_for_a_backward_pass(shim, monkeypatch):
    launched = []
    monkeypatch.setattr(gpu, "launch", lambda *arguments: launched.append(arguments))
    img, kernel = torch.rand(1, 1, 5, 5), torch.rand(1, 1, 3, 3)
    select_conv(img, kernel, SEMIFIELDS[0], Convolution(), "cuda")
    assert launched[0][7] is None
    select_conv(img.requires_grad_(), kernel, SEMIFIELDS[0], Convolution(), "cuda")
    assert launched[1][7].dtype == torch.uint8


def test_only_wanted_gradients_are_computed(shim):
    img, kernel = torch.rand(1, 1, 5, 5), torch.rand(1, 1, 3, 3).requires_grad_()
    output = subtract_conv(img, kernel, SEMIFIELDS[2], Convolution(), "cuda")
    output.sum().backward()
    assert [name for _, name in shim.launched] == ["semifield_forward", "semifield_backward_kernel"]


def test_what_the_kernels_cannot_do_is_said():
    without = SelectSemifield(torch.lt, torch.add, torch.add, torch.add, 0.0)
    img, kernel = torch.rand(1, 1, 5, 5), torch.rand(1, 1, 3, 3)
    with pytest.raises(ValueError, match="no CUDA expressions; impl='torch' computes the same"):
        select_conv(img, kernel, without, Convolution(), "cuda")
    with pytest.raises(ValueError, match="at most 3 spatial axes; the image has 4"):
        select_conv(
            torch.rand(1, 1, 3, 3, 3, 3), torch.rand(1, 1, 1, 1, 1, 1), SEMIFIELDS[0],
            Convolution(), "cuda",
        )  # fmt: skip
    huge = torch.empty(1).expand(1, 1, 50000, 50000)
    with pytest.raises(ValueError, match="the kernels count to 2147483647"):
        select_conv(huge, kernel, SEMIFIELDS[0], Convolution(), "cuda")
    with pytest.raises(launcher.KernelError, match="need tensors on a GPU"):
        select_conv(img, kernel, SEMIFIELDS[0], Convolution(), "cuda")


under_sanitizers = kernel_shim.SANITIZE in os.environ


@pytest.mark.skipif(under_sanitizers, reason="starts a process under sanitizers itself")
@pytest.mark.skipif(kernel_shim.MISSING is not None, reason=str(kernel_shim.MISSING))
def test_no_kernel_leaves_its_memory():
    chosen = "test_kernels_equal_the_reference and 2d and (max or log_2)"
    output, findings = kernel_shim.sanitized(__file__, "-m", "not gpu", "-k", chosen)
    assert not findings, output


def test_terms_that_rounding_leaves_above_their_sum_have_gradients(shim):
    generator = torch.Generator().manual_seed(0)
    img = 1e4 * torch.rand(1, 2, 9, 9, generator=generator)
    kernel = torch.rand(2, 2, 3, 3, generator=generator)
    grads = []
    for impl in ("cuda", "torch"):
        inputs = img.clone().requires_grad_(), kernel.clone().requires_grad_()
        output = subtract_conv(*inputs, SubtractSemifield.log(3.0), Convolution(), impl)
        grads.append(torch.autograd.grad(output.sum(), inputs))
    for left, right in zip(*grads, strict=True):
        assert left.isfinite().all()
        torch.testing.assert_close(left, right, rtol=1e-2, atol=1e-2)

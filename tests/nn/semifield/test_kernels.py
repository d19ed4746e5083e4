"""The kernels: their formulas, and what they start with."""

import math

import pytest
import torch

from msdtool.nn.semifield import (
    LearnedKernel2D,
    LearnedKernel3D,
    QuadraticKernelCholesky2D,
    QuadraticKernelIso2D,
    QuadraticKernelIso3D,
    QuadraticKernelSpectral2D,
)

QUADRATIC = (QuadraticKernelIso2D, QuadraticKernelSpectral2D, QuadraticKernelCholesky2D)


def quadratic(covariance: torch.Tensor, size: int) -> torch.Tensor:
    """-x^T S^-1 x by its definition, pixel by pixel."""
    kernel = torch.empty(size, size, dtype=torch.float64)
    for row in range(size):
        for column in range(size):
            x = torch.tensor([row - (size - 1) // 2, column - (size - 1) // 2], dtype=torch.float64)
            kernel[row, column] = -x @ torch.linalg.inv(covariance) @ x
    return kernel


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_quadratic_kernels_by_their_definition(size):
    torch.manual_seed(size)
    iso = QuadraticKernelIso2D(2, 3, size).double()
    spectral = QuadraticKernelSpectral2D(2, 3, size).double()
    cholesky = QuadraticKernelCholesky2D(2, 3, size).double()
    log_std, theta = spectral.inspect_parameters()
    assert log_std.shape == (3, 2, 2)
    both, corr = cholesky.inspect_parameters()
    assert both.shape == (3, 2, 2)
    for o in range(3):
        for i in range(2):
            variance = (2 * iso.log_std[o, i]).exp().detach()
            expected = quadratic(variance * torch.eye(2, dtype=torch.float64), size)
            torch.testing.assert_close(iso()[o, i].detach(), expected)

            angle = theta[o, i].item()
            turn = torch.tensor([
                [math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]
            ], dtype=torch.float64)  # fmt: skip
            covariance = turn @ torch.diag((2 * log_std[o, i]).exp().detach()) @ turn.T
            torch.testing.assert_close(spectral()[o, i].detach(), quadratic(covariance, size))

            s0, s1 = both[o, i].exp().tolist()
            shared = math.tanh(corr[o, i].item()) * s0 * s1
            covariance = torch.tensor([[s0**2, shared], [shared, s1**2]], dtype=torch.float64)
            torch.testing.assert_close(cholesky()[o, i].detach(), quadratic(covariance, size))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_kernels_of_volumes(size):
    kernel = QuadraticKernelIso3D(2, 3, size).double()
    values, variance = kernel().detach(), (2 * kernel.log_std[:, :, None]).exp().detach()
    assert values.shape == (3, 2, size, size, size)
    at = [index - (size - 1) // 2 for index in range(size)]
    squares = [z**2 + y**2 + x**2 for z in at for y in at for x in at]
    expected = -torch.tensor(squares, dtype=torch.float64) / variance
    torch.testing.assert_close(values.flatten(2), expected)
    assert variance.max().item() == pytest.approx(max(1, 3 * (size // 2) ** 2))
    assert LearnedKernel3D(2, 3, size)().shape == values.shape
    assert LearnedKernel3D(2, 3, size).extra_repr() == f"2, 3, kernel_size={size}"


@pytest.mark.parametrize("make", [*QUADRATIC, LearnedKernel2D])
def test_kernels_have_the_dtype_of_their_parameters(make):
    assert make(1, 2, 3)().dtype == torch.float32
    assert make(1, 2, 3).double()().dtype == torch.float64
    assert make(2, 3, 5)().shape == (3, 2, 5, 5)
    assert make(2, 3, 5).extra_repr() == "2, 3, kernel_size=5"


@pytest.mark.parametrize("make", [*QUADRATIC, LearnedKernel2D])
def test_sizes_must_be_positive(make):
    with pytest.raises(ValueError, match="in_channels=1, out_channels=0, kernel_size=3; each must"):
        make(1, 0, 3)


def variances(kernel, shape=(40, 30)) -> torch.Tensor:
    log_std = (
        kernel.log_std
        if isinstance(kernel, QuadraticKernelIso2D)
        else kernel.inspect_parameters()[0]
    )
    return (2 * log_std).exp().detach()


@pytest.mark.parametrize(("var", "low", "high", "mean", "std"), [
    ("uniform", 1, 16, 8.5, 4.33), ("normal", 1, 16, 8, 1), (3, 3, 3, 3, 0),
    (2.5, 2.5, 2.5, 2.5, 0),
    ("ss", 1, 18, 9.5, 4.9), ("log-ss", 1, 18, 5.87, 4.7),
])  # fmt: skip
def test_isotropic_variances_start_where_they_should(var, low, high, mean, std):
    torch.manual_seed(0)
    found = variances(QuadraticKernelIso2D(30, 40, 7, {"var": var}))
    assert found.min() >= low - 1e-4
    assert found.max() <= high + 1e-4
    assert found.mean().item() == pytest.approx(mean, abs=0.3)
    assert found.std().item() == pytest.approx(std, abs=0.3)


@pytest.mark.parametrize("make", QUADRATIC[1:])
@pytest.mark.parametrize(("var", "lows", "highs", "means"), [
    ("uniform", (1, 1), (16, 16), (8.5, 8.5)), ("skewed", (1, 20), (8, 24), (4.5, 22)),
    ("normal", (1, 1), (16, 16), (8.1, 8.1)), ("uniform-iso", (1, 1), (16, 16), (8.5, 8.5)),
    ("ss-iso", (1, 1), (18, 18), (9.5, 9.5)), ("log-ss-iso", (1, 1), (18, 18), (5.9, 5.9)),
    (4.0, (4, 4), (4, 4), (4, 4)),
])  # fmt: skip
def test_pairs_of_variances_start_where_they_should(make, var, lows, highs, means):
    torch.manual_seed(0)
    turned = {"theta": "spin"} if make is QuadraticKernelSpectral2D else {}
    found = variances(make(30, 40, 7, {"var": var, **turned}))
    for axis in range(2):
        assert found[..., axis].min() >= lows[axis] - 1e-4
        assert found[..., axis].max() <= highs[axis] + 1e-4
        assert found[..., axis].mean().item() == pytest.approx(means[axis], abs=0.4)
    same = torch.equal(found[..., 0], found[..., 1])
    assert same is (var == 4.0 or str(var).endswith("iso"))


def test_scale_space_is_evenly_spaced_and_shuffled():
    torch.manual_seed(0)
    found = variances(QuadraticKernelIso2D(3, 4, 5)).flatten()
    assert found.sort().values.tolist() == pytest.approx(torch.linspace(1, 8, 12).tolist())
    assert not torch.equal(found, found.sort().values)


def test_angles_spin_or_are_uniform():
    torch.manual_seed(0)
    spin = QuadraticKernelSpectral2D(3, 4, 3).inspect_parameters()[1].detach().flatten()
    assert spin.sort().values.tolist() == pytest.approx([i * math.pi / 12 for i in range(12)])
    init = {"var": 1.0, "theta": "uniform"}
    uniform = QuadraticKernelSpectral2D(30, 40, 3, init).inspect_parameters()[1].detach()
    assert 0 <= uniform.min() < uniform.max() < math.pi
    assert uniform.mean().item() == pytest.approx(math.pi / 2, abs=0.1)


def test_correlations_are_cut_off():
    torch.manual_seed(0)
    corr = QuadraticKernelCholesky2D(30, 40, 3).inspect_parameters()[1].detach()
    assert corr.abs().max() <= 1
    assert corr.std().item() == pytest.approx(0.44, abs=0.03)


@pytest.mark.parametrize("make", QUADRATIC)
def test_a_kernel_of_one_pixel_is_zero_and_has_gradients(make):
    init = {"var": "ss" if make is QuadraticKernelIso2D else "ss-iso"}
    if make is QuadraticKernelSpectral2D:
        init["theta"] = "spin"
    kernel = make(1, 2, 1, init)
    values = kernel()
    assert values.tolist() == [[[[0]]], [[[0]]]]
    values.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in kernel.parameters())


@pytest.mark.parametrize(("make", "init", "message"), [
    (QuadraticKernelIso2D, {"var": "skewed"}, r"init\['var'\] is 'skewed'; expected a positive"),
    (QuadraticKernelIso2D, {}, r"init \{\} lacks 'var'; expected a positive number, \"uniform\""),
    (QuadraticKernelSpectral2D, {"var": -1.0, "theta": "spin"}, r"init\['var'\] is -1.0"),
    (QuadraticKernelSpectral2D, {"var": 1.0}, r"lacks 'theta'; expected \"uniform\", \"spin\""),
    (QuadraticKernelCholesky2D, {"var": True}, r"init\['var'\] is True"),
    (QuadraticKernelIso2D, {"var": 3.0, "vra": 2}, "init has the key 'vra'; allowed: var$"),
    (QuadraticKernelCholesky2D, {"var": 3.0, "theta": "spin"}, "the key 'theta'; allowed: var$"),
    (QuadraticKernelSpectral2D, {"var": 3.0, "thta": "spin"}, "'thta'; allowed: var, theta$"),
])  # fmt: skip
def test_other_starts_are_refused(make, init, message):
    with pytest.raises(ValueError, match=message):
        make(1, 1, 3, init)

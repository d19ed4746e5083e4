"""Kernels of semifield convolutions: modules without arguments that make [O, I, k, k(, k)].

The quadratic ones are -x^T S^-1 x, with a covariance S for every output and input channel, and
x = ((slice,) row, column) counted from the kernel's middle: concave structuring functions that are
0 in the middle. Along each axis x runs from -floor((k-1)/2) to floor(k/2).
"""

import torch
from torch import Tensor, nn

from msdtool.nn.semifield.covariances import (
    CholeskyCovariances,
    Init,
    SpectralCovariances,
    draw_variances,
)


class _LearnedKernel(nn.Module):
    ndim: int

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        _check_sizes(in_channels, out_channels, kernel_size)
        shape = (out_channels, in_channels, *(kernel_size,) * self.ndim)
        self.kernel = nn.Parameter(torch.randn(shape))

    def forward(self) -> Tensor:
        """Return the kernel, [O, I, k, k(, k)]."""
        return self.kernel

    def extra_repr(self) -> str:
        """Channels and size."""
        out_channels, in_channels, kernel_size, *_ = self.kernel.shape
        return f"{in_channels}, {out_channels}, {kernel_size=}"


class LearnedKernel2D(_LearnedKernel):
    """A kernel whose every value is a parameter, from a standard normal distribution.

    Args:
        in_channels: I, of one group.
        out_channels: O.
        kernel_size: k, the height and width.

    Raises:
        ValueError: a size is not positive.
    """

    ndim = 2


class LearnedKernel3D(_LearnedKernel):
    """`LearnedKernel2D` for volumes."""

    ndim = 3


class _QuadraticKernelIso(nn.Module):
    ndim: int
    _pos_grid: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, init: Init | None = None
    ) -> None:
        super().__init__()
        _check_sizes(in_channels, out_channels, kernel_size)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        shape = (out_channels, in_channels)
        init = {"var": "ss"} if init is None else init
        variances = draw_variances(init, shape, kernel_size, self.ndim)
        self.log_std = nn.Parameter(variances.log() / 2)
        self.register_buffer("_pos_grid", _positions(kernel_size, self.ndim)[None, None])

    def forward(self) -> Tensor:
        """Return the kernel, [O, I, k, k(, k)]."""
        distances = self._pos_grid.pow(2).sum(-2) * self.log_std.mul(-2).exp().unsqueeze(2)
        return -distances.unflatten(2, (self.kernel_size,) * self.ndim)

    def extra_repr(self) -> str:
        """Channels and size."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


class QuadraticKernelIso2D(_QuadraticKernelIso):
    """The isotropic quadratic kernel -(x0^2 + x1^2) / variance.

    Args:
        in_channels: I, of one group.
        out_channels: O.
        kernel_size: k, the height and width.
        init: ``{"var": ...}``, the variances to start with: a number; "uniform", between 1 and 16;
            "normal", around 8 with standard deviation 1, between 1 and 16; "ss" (default), scale
            space: evenly spaced from 1 to 2*(k // 2)^2, shuffled; "log-ss", evenly spaced on a
            logarithmic scale.

    Attributes:
        log_std: logarithms of the standard deviations, [O, I].

    Raises:
        ValueError: a size is not positive, or ``init`` is none of these.
    """

    ndim = 2


class QuadraticKernelIso3D(_QuadraticKernelIso):
    """`QuadraticKernelIso2D` for volumes; the scale space reaches to 3*(k // 2)^2."""

    ndim = 3


class QuadraticKernelSpectral2D(nn.Module):
    """The quadratic kernel -x^T S^-1 x, S given by standard deviations and a rotation.

    Args:
        in_channels: I, of one group.
        out_channels: O.
        kernel_size: k, the height and width.
        init: ``{"var": ..., "theta": ...}``. The variances to start with: a number; "uniform",
            between 1 and 16; "normal", around 8 with standard deviation 4, between 1 and 16;
            "skewed" (default), between 1 and 8 along the first axis, 20 and 24 along the second;
            "uniform-iso", "ss-iso" and "log-ss-iso", as those of `QuadraticKernelIso2D`, the same
            along both axes. The angles: "uniform", between 0 and pi; "spin" (default), evenly
            spaced there, shuffled.

    Raises:
        ValueError: a size is not positive, or ``init`` is none of these.
    """

    _pos_grid: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, init: Init | None = None
    ) -> None:
        super().__init__()
        _check_sizes(in_channels, out_channels, kernel_size)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        init = {"var": "skewed", "theta": "spin"} if init is None else init
        self.covs = SpectralCovariances((out_channels, in_channels), kernel_size, init)
        self.register_buffer("_pos_grid", _positions(kernel_size).T.contiguous())

    def forward(self) -> Tensor:
        """Return the kernel, [O, I, k, k]."""
        distances = self.covs.squared_distances(*self._pos_grid.unbind(1))
        return -distances.unflatten(2, (self.kernel_size, self.kernel_size))

    def inspect_parameters(self) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the standard deviations [O, I, 2] and the angles [O, I].

        The angle, in radians, is the one from the row axis to the first of the two axes, towards
        the column axis.
        """
        return self.covs.log_std, self.covs.theta

    def extra_repr(self) -> str:
        """Channels and size."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


class QuadraticKernelCholesky2D(nn.Module):
    """The quadratic kernel -x^T S^-1 x, S given by standard deviations and a correlation.

    Args:
        in_channels: I, of one group.
        out_channels: O.
        kernel_size: k, the height and width.
        init: ``{"var": ...}``, as for `QuadraticKernelSpectral2D`. The correlations are those
            of a normal distribution around 0 with standard deviation 0.5, cut off at -1 and 1,
            before the tanh.

    Raises:
        ValueError: a size is not positive, or ``init`` is none of these.
    """

    _pos_grid: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, init: Init | None = None
    ) -> None:
        super().__init__()
        _check_sizes(in_channels, out_channels, kernel_size)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        init = {"var": "skewed"} if init is None else init
        self.covs = CholeskyCovariances((out_channels, in_channels), kernel_size, init)
        self.register_buffer("_pos_grid", _positions(kernel_size)[None, None])

    def forward(self) -> Tensor:
        """Return the kernel, [O, I, k, k]."""
        distances = self.covs.squared_distances(*self._pos_grid[0, 0].unbind(0))
        return -distances.unflatten(2, (self.kernel_size, self.kernel_size))

    def inspect_parameters(self) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the standard deviations [O, I, 2] and the skews [O, I].

        The skew's tanh is Pearson's correlation of row and column.
        """
        return self.covs.log_std.movedim(0, -1), self.covs.corr

    def extra_repr(self) -> str:
        """Channels and size."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


def _positions(kernel_size: int, ndim: int = 2) -> Tensor:
    """Row and column of every pixel in row-major order, [2, k*k]; in 3D the slice before."""
    axis = torch.arange(kernel_size, dtype=torch.float32) - (kernel_size - 1) // 2
    return torch.stack(torch.meshgrid(*(axis,) * ndim, indexing="ij")).flatten(1)


def _check_sizes(in_channels: int, out_channels: int, kernel_size: int) -> None:
    if min(in_channels, out_channels, kernel_size) < 1:
        raise ValueError(
            f"got in_channels={in_channels}, out_channels={out_channels}, "
            f"kernel_size={kernel_size}; each must be at least 1"
        )

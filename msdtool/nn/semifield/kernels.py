"""Kernels of semifield convolutions: modules whose forward takes no arguments.

They return [O, I, k, k(, k)]. The quadratic ones are -x^T S^-1 x, with a covariance S for every
output and input channel, and x = ((slice,) row, column) relative to the centre of the kernel:
concave structuring functions that are 0 at the centre. Along each axis x runs from
-floor((k-1)/2) to floor(k/2).
"""

from typing import ClassVar

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


class _QuadraticKernel(nn.Module):
    """What the quadratic kernels share; subclasses say how the covariances are parametrised.

    Attributes:
        ndim: number of spatial axes.
        default_init: ``init`` where none is given.
        coordinate_axis: the axis of the buffer ``_pos_grid`` along which the coordinates of a
            pixel lie; checkpoints fix it.
    """

    ndim: int
    default_init: ClassVar[Init]
    coordinate_axis = 2
    _pos_grid: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, init: Init | None = None
    ) -> None:
        super().__init__()
        _check_sizes(in_channels, out_channels, kernel_size)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self._draw(self.default_init if init is None else init)
        positions = _positions(kernel_size, self.ndim)
        stored = positions.T.contiguous() if self.coordinate_axis == 1 else positions[None, None]
        self.register_buffer("_pos_grid", stored)

    def _draw(self, init: Init) -> None:
        """Draw the initial parameters."""
        raise NotImplementedError

    def _squared_distances(self) -> Tensor:
        """x^T S^-1 x of every pixel, [O, I, k*k(*k)]."""
        raise NotImplementedError

    def forward(self) -> Tensor:
        """Return the kernel, [O, I, k, k(, k)]."""
        return -self._squared_distances().unflatten(2, (self.kernel_size,) * self.ndim)

    def extra_repr(self) -> str:
        """Channels and size."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


class _IsotropicKernel(_QuadraticKernel):
    default_init: ClassVar[Init] = {"var": "ss"}

    def _draw(self, init: Init) -> None:
        shape = (self.out_channels, self.in_channels)
        variances = draw_variances(init, shape, self.kernel_size, self.ndim)
        self.log_std = nn.Parameter(variances.log() / 2)

    def _squared_distances(self) -> Tensor:
        return self._pos_grid.pow(2).sum(-2) * self.log_std.mul(-2).exp().unsqueeze(2)


class QuadraticKernelIso2D(_IsotropicKernel):
    """The isotropic quadratic kernel -(x0^2 + x1^2) / variance.

    Args:
        in_channels: I, of one group.
        out_channels: O.
        kernel_size: k, the height and width.
        init: ``{"var": ...}``, the initial variances: a number; "uniform", between 1 and 16;
            "normal", around 8 with standard deviation 1, between 1 and 16; "ss" (default), scale
            space: evenly spaced from 1 to 2*(k // 2)^2, shuffled; "log-ss", evenly spaced on a
            logarithmic scale.

    Attributes:
        log_std: logarithms of the standard deviations, [O, I].

    Raises:
        ValueError: a size is not positive, or ``init`` is none of these.
    """

    ndim = 2


class QuadraticKernelIso3D(_IsotropicKernel):
    """`QuadraticKernelIso2D` for volumes; the scale space reaches to 3*(k // 2)^2."""

    ndim = 3


class _AnisotropicKernel(_QuadraticKernel):
    """A quadratic kernel with a variance along each of two axes."""

    ndim = 2
    covariances: type[SpectralCovariances] | type[CholeskyCovariances]
    covs: SpectralCovariances | CholeskyCovariances

    def _draw(self, init: Init) -> None:
        shape = (self.out_channels, self.in_channels)
        self.covs = self.covariances(shape, self.kernel_size, init)

    def _squared_distances(self) -> Tensor:
        return self.covs.squared_distances(*self._pos_grid.unbind(self.coordinate_axis))


class QuadraticKernelSpectral2D(_AnisotropicKernel):
    """The quadratic kernel -x^T S^-1 x, S given by standard deviations and a rotation.

    Args:
        in_channels: I, of one group.
        out_channels: O.
        kernel_size: k, the height and width.
        init: ``{"var": ..., "theta": ...}``. The initial variances: a number; "uniform", between 1
            and 16; "normal", around 8 with standard deviation 4, between 1 and 16; "skewed"
            (default), between 1 and 8 along the first axis, 20 and 24 along the second;
            "uniform-iso", "ss-iso" and "log-ss-iso", as those of `QuadraticKernelIso2D`, the same
            along both axes. The angles: "uniform", between 0 and pi; "spin" (default), evenly
            spaced in that range, shuffled.

    Raises:
        ValueError: a size is not positive, or ``init`` is none of these.
    """

    covariances = SpectralCovariances
    default_init: ClassVar[Init] = {"var": "skewed", "theta": "spin"}
    coordinate_axis = 1
    covs: SpectralCovariances

    def inspect_parameters(self) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the standard deviations [O, I, 2] and the angles [O, I].

        The angle, in radians, is the one from the row axis to the first of the two axes, towards
        the column axis.
        """
        return self.covs.log_std, self.covs.theta


class QuadraticKernelCholesky2D(_AnisotropicKernel):
    """The quadratic kernel -x^T S^-1 x, S given by standard deviations and a correlation.

    Args:
        in_channels: I, of one group.
        out_channels: O.
        kernel_size: k, the height and width.
        init: ``{"var": ...}``, as for `QuadraticKernelSpectral2D`. The correlations are the tanh of
            samples from a normal distribution around 0 with standard deviation 0.5, truncated to
            [-1, 1].

    Raises:
        ValueError: a size is not positive, or ``init`` is none of these.
    """

    covariances = CholeskyCovariances
    default_init: ClassVar[Init] = {"var": "skewed"}
    covs: CholeskyCovariances

    def inspect_parameters(self) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the standard deviations [O, I, 2] and the skews [O, I].

        The skew's tanh is Pearson's correlation of row and column.
        """
        return self.covs.log_std.movedim(0, -1), self.covs.corr


def _positions(kernel_size: int, ndim: int) -> Tensor:
    """Row and column of every pixel in row-major order, [2, k*k]; in 3D preceded by the slice."""
    axis = torch.arange(kernel_size, dtype=torch.float32) - (kernel_size - 1) // 2
    return torch.stack(torch.meshgrid(*(axis,) * ndim, indexing="ij")).flatten(1)


def _check_sizes(in_channels: int, out_channels: int, kernel_size: int) -> None:
    if min(in_channels, out_channels, kernel_size) < 1:
        raise ValueError(
            f"got in_channels={in_channels}, out_channels={out_channels}, "
            f"kernel_size={kernel_size}; each must be at least 1"
        )

"""Losses of a regression that look at more than single pixels: edges, frequencies, scales.

They map (output, target, mask) to a scalar as those of `msdtool.train.losses` do: output and
target [B, C, *space], and a mask [B, 1, *space] or None. Each raises ValueError if output and
target differ in shape. ``scale`` is the unit of the values per channel, [C], the targets' standard
deviation; None is the data's own unit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from msdtool.data import IGNORED
from msdtool.measure.masking import Total, masked_mean, of_one, ratio
from msdtool.measure.ssim import SCALE_WEIGHTS, multiscale_ssim
from msdtool.train.label_losses import hardest_mean
from msdtool.train.losses import check_shapes, counted_indices, in_unit


class MultiScaleSSIMLoss:
    """1 - multi-scale SSIM, mean over the images with a pixel that counts; see `multiscale_ssim`.

    Where pixels do not count, the output is taken to be right.

    Args:
        data_range: value range that SSIM refers to; None: the wider of the two images' ranges.
        scales: 1 to 5; images of less than 11 * 2**(scales - 1) pixels along an axis are refused.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        data_range: float | None = None,
        scales: int = len(SCALE_WEIGHTS),
        *,
        total: Total = of_one,
    ) -> None:
        self.data_range = data_range
        self.scales = scales
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module. ValueError also if an image is too small."""
        check_shapes(output, target)
        counted = torch.ones(len(output), device=output.device, dtype=torch.float64)
        if mask is not None:
            output = torch.where(mask, output, target)
            counted = mask.flatten(1).any(1).double()
        similarity = multiscale_ssim(output, target, self.data_range, self.scales, mask)
        return ratio(((1 - similarity) * counted).sum(), counted.sum(), self.total).to(output.dtype)


class EdgeLoss:
    """Mean squared difference of gradients (Eigen & Fergus, ICCV 2015, eq. 1, its last term).

    Gradients are differences of neighbouring pixels, their squares are added over the axes. One
    counts where both of its pixels do; the mean is over the pixels that count. A constant offset
    of the output costs nothing, so this loss is for use beside another one.

    Args:
        scale: unit of the values; see the module.
        total: sum over the processes that share a batch.
    """

    def __init__(self, scale: Sequence[float] | None = None, *, total: Total = of_one) -> None:
        self.scale = scale
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module."""
        check_shapes(output, target)
        squared = _gradient(in_unit(output - target, self.scale), mask).square().sum(0)
        return masked_mean(squared, mask, self.total)


class FourierLoss:
    """Mean modulus of the difference's Fourier coefficients (Cho et al., ICCV 2021).

    Of their multi-scale frequency reconstruction loss, this is the full scale. The transform is
    over the spatial axes and orthonormal, so that the coefficients of white noise have its standard
    deviation. Differences of pixels that do not count are 0, and the mean is the sum of the moduli
    divided by the number of values that count.

    Args:
        scale: unit of the values; see the module.
        total: sum over the processes that share a batch.
    """

    def __init__(self, scale: Sequence[float] | None = None, *, total: Total = of_one) -> None:
        self.scale = scale
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module."""
        check_shapes(output, target)
        difference = in_unit(output - target, self.scale)
        number = difference.new_full((), difference.numel())
        if mask is not None:
            difference = torch.where(mask, difference, 0.0)
            number = mask.sum().to(difference) * difference.shape[1]
        spectrum = torch.fft.fftn(difference, dim=list(range(2, difference.dim())), norm="ortho")
        return ratio(spectrum.abs().sum(), number, self.total)


class TotalVariationLoss:
    """Total variation of the output: mean length of its gradient.

    It is what Rudin, Osher & Fatemi minimise (Physica D 60, 1992). Gradients are differences to the
    next pixel along each axis, 0 at the last one and where one of the two pixels does not count.
    It is for use beside another loss, which looks at the target.

    Args:
        scale: unit of the values; see the module.
        labels: the output is scores of a segmentation; the gradient is that of the probabilities.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        scale: Sequence[float] | None = None,
        *,
        labels: bool = False,
        total: Total = of_one,
    ) -> None:
        self.scale = scale
        self.labels = labels
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module. The target only tells which pixels count."""
        if self.labels:
            mask = (counted_indices(output, target, mask) != IGNORED).unsqueeze(1)
            image = output.softmax(1)
        else:
            check_shapes(output, target)
            image = in_unit(output, self.scale)
        # Unlike the square root of a sum of squares, the norm has a gradient where it is 0.
        length = torch.linalg.vector_norm(_gradient(image, mask), dim=0)
        return masked_mean(length, mask, self.total)


class HardestSquaresLoss:
    """Mean squared difference over the values of each image that differ most.

    The regression's form of `HardestEntropyLoss` (Wu et al., arXiv 1605.06885).

    Args:
        scale: unit of the values; see the module.
        fraction: of an image's values that count, rounded up; above 0, at most 1.
        total: sum over the processes that share a batch.
    """

    def __init__(
        self,
        scale: Sequence[float] | None = None,
        fraction: float = 0.1,
        *,
        total: Total = of_one,
    ) -> None:
        self.scale = scale
        self.fraction = fraction
        self.total = total

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss; see the module."""
        check_shapes(output, target)
        squared = in_unit(output - target, self.scale).square()
        counts = torch.ones_like(squared, dtype=torch.bool) if mask is None else mask
        return hardest_mean(squared, counts.expand_as(squared), self.fraction, self.total)


def _gradient(image: Tensor, mask: Tensor | None) -> Tensor:
    """Differences of [B, C, *space] to the next pixel along each axis, [ndim, B, C, *space].

    0 at the last pixel of an axis, and where one of the two pixels is not in the mask.
    """
    components = []
    for axis in range(2, image.dim()):
        rest = image.shape[axis] - 1
        here, there = image.narrow(axis, 0, rest), image.narrow(axis, 1, rest)
        difference = there - here
        if mask is not None:
            both = mask.narrow(axis, 0, rest) & mask.narrow(axis, 1, rest)
            difference = torch.where(both, difference, 0.0)
        components.append(torch.cat([difference, torch.zeros_like(image.narrow(axis, 0, 1))], axis))
    return torch.stack(components)

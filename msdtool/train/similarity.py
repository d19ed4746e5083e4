"""Structural similarity (SSIM)."""

import torch
from torch import Tensor

from msdtool.config import SSIM_WINDOW

SIGMA = 1.5
K1, K2 = 0.01, 0.03
RADIUS = SSIM_WINDOW // 2
BLOCK = 256  # pixels along an axis, in one product


def ssim_image(output: Tensor, target: Tensor, data_range: float | None) -> Tensor:
    """Structural similarity at each pixel (Wang et al., IEEE TIP 2004, eq. 13), [B, C, *space].

    Means are weighted by a Gaussian of 1.5 pixels; the border is reflected.

    Args:
        output, target: [B, C, *space].
        data_range: value range that the constants refer to; None: the wider of the two ranges.

    Raises:
        ValueError: an axis is shorter than the window.
    """
    smallest = min(output.shape[2:])
    if smallest < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} pixels, got {smallest}")
    if data_range is None:
        data_range = float(max(x.detach().max() - x.detach().min() for x in (output, target)))
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean, other = _local_mean(output), _local_mean(target)
    product = mean * other
    covariance = _local_mean(output * target) - product
    squares = mean.square() + other.square()
    variances = _local_mean(output.square() + target.square()) - squares
    result = (2 * product + c1) * (2 * covariance + c2)
    return result / ((squares + c1) * (variances.clamp(min=0) + c2))


def _local_mean(images: Tensor) -> Tensor:
    """Weighted mean around each pixel of images [B, C, *space]."""
    for axis in range(2, images.dim()):
        size = images.shape[axis]
        blocks = []
        for start in range(0, size, BLOCK):
            stop = min(start + BLOCK, size)
            first, last = max(start - RADIUS, 0), min(stop + RADIUS, size)
            window = _window(start, stop, size, images)[:, first:last]
            part = images.narrow(axis, first, last - first)
            if axis == images.dim() - 1:
                blocks.append(part @ window.t())
            else:
                mean = window @ part.flatten(axis + 1)
                blocks.append(mean.unflatten(-1, images.shape[axis + 1 :]))
        images = torch.cat(blocks, axis)
    return images


def _window(start: int, stop: int, size: int, like: Tensor) -> Tensor:
    """Matrix [stop - start, size] that takes the means of some pixels along an axis.

    As a product of matrices that is faster than sums of shifted images, and much faster than
    torch's convolutions of single channels.
    """
    shifts = torch.arange(-RADIUS, RADIUS + 1, device=like.device)
    weights = torch.exp(-shifts.to(like.dtype).square() / (2 * SIGMA**2))
    pixels = torch.arange(start, stop, device=like.device)[:, None] + shifts
    sources = size - 1 - (size - 1 - pixels.abs()).abs()  # reflected
    matrix = like.new_zeros(stop - start, size)
    return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(len(matrix), -1))

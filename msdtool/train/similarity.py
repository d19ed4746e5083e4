"""Structural similarity (SSIM)."""

import torch
from torch import Tensor

from msdtool.config import SSIM_WINDOW

SIGMA = 1.5
K1, K2 = 0.01, 0.03


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
    windows = {size: _window(size, output) for size in set(output.shape[2:])}
    mean, other = (_local_mean(image, windows) for image in (output, target))
    product = mean * other
    covariance = _local_mean(output * target, windows) - product
    squares = mean.square() + other.square()
    variances = _local_mean(output.square() + target.square(), windows) - squares
    result = (2 * product + c1) * (2 * covariance + c2)
    return result / ((squares + c1) * (variances.clamp(min=0) + c2))


def _window(size: int, like: Tensor) -> Tensor:
    """Matrix [size, size] that takes the weighted means along an axis, border included.

    As a product of matrices that is faster than sums of shifted images, and much faster than
    torch's convolutions of single channels.
    """
    radius = SSIM_WINDOW // 2
    shifts = torch.arange(-radius, radius + 1, device=like.device)
    weights = torch.exp(-shifts.to(like.dtype).square() / (2 * SIGMA**2))
    last = size - 1
    sources = last - (last - (torch.arange(size, device=like.device)[:, None] + shifts).abs()).abs()
    matrix = like.new_zeros(size, size)
    return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(size, -1))


def _local_mean(images: Tensor, windows: dict[int, Tensor]) -> Tensor:
    """Mean around each pixel of images [B, C, *space]."""
    result = images @ windows[images.shape[-1]].t()
    for axis in range(2, images.dim() - 1):
        window = windows[images.shape[axis]]
        result = (window @ result.flatten(axis + 1)).view(images.shape)
    return result

"""Structural similarity (SSIM), as Wang et al. (IEEE TIP 2004) and scikit-image compute it.

Means, variances and covariances are those of a window of 11 pixels per axis with Gaussian weights
of sigma 1.5, as populations (the weights add up to 1), and K1 = 0.01, K2 = 0.03. A pixel counts
where its window lies inside the image, so 5 pixels at each border are left out. This is
``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``.

With d = x - y, the similarity (ibid., eq. 13) is

    (1 - mean(d)^2 / (mean(x)^2 + mean(y)^2 + C1)) (1 - var(d) / (var(x) + var(y) + C2)),

which is 1 for equal images to the last bit. It is computed in float64, in units of the data range
and from values near zero: a variance as a difference of large squares would drown in rounding.
"""

import math

import torch
from torch import Tensor

from msdtool.config import SSIM_WINDOW
from msdtool.measure.masking import Total, masked_mean, of_one

SIGMA = 1.5
K1, K2 = 0.01, 0.03
RADIUS = SSIM_WINDOW // 2
BLOCK = 256  # pixels along an axis that one matrix product computes
PIECE = 2**21  # pixels computed at once, about
SAMPLE = 1023  # pixels of an image whose middle value is taken as its offset


def mean_ssim(
    output: Tensor,
    target: Tensor,
    data_range: float | None,
    mask: Tensor | None = None,
    total: Total = of_one,
) -> Tensor:
    """Mean of `ssim_image` over the pixels that count, a scalar in float64.

    Args:
        output, target, data_range: as for `ssim_image`.
        mask: [B, 1, *space]: the pixels that count, those near the border apart. The windows of
            these pixels include others. 1 if no pixel counts.
        total: sum over the processes that share a batch.

    Raises:
        ValueError: as for `ssim_image`.
    """
    difference = 1 - ssim_image(output, target, data_range)
    return 1 - masked_mean(difference, None if mask is None else inside(mask), total)


def inside(images: Tensor) -> Tensor:
    """The pixels of [B, C, *space] whose windows lie inside the image, [B, C, *(space - 10)]."""
    for axis in range(2, images.dim()):
        images = images.narrow(axis, RADIUS, max(images.shape[axis] - 2 * RADIUS, 0))
    return images


def ssim_image(output: Tensor, target: Tensor, data_range: float | None) -> Tensor:
    """Structural similarity at each pixel whose window lies inside, float64 [B, C, *(space - 10)].

    Args:
        output, target: [B, C, *space].
        data_range: value range that the constants refer to; None: the wider of the two ranges.

    Raises:
        ValueError: an axis is shorter than the window, or the shapes differ.
    """
    if output.shape != target.shape:
        raise ValueError(f"SSIM of {tuple(output.shape)} and {tuple(target.shape)} is not defined")
    smallest = min(output.shape[2:])
    if smallest < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} pixels, got {smallest}")
    if data_range is None:
        data_range = float(max(x.detach().max() - x.detach().min() for x in (output, target)))
    unit = data_range or 1.0  # constant images
    offsets = _offset(output), _offset(target)
    rows = max(4 * RADIUS, PIECE // math.prod(output.shape[3:]))
    pieces = []
    for first in range(0, output.shape[2] - 2 * RADIUS, rows):
        size = min(rows + 2 * RADIUS, output.shape[2] - first)
        x, y = (
            (images.narrow(2, first, size).double() - offset) / unit
            for images, offset in zip((output, target), offsets, strict=True)
        )
        pieces.append(_similarity(x, y, *(offset / unit for offset in offsets)))
    return torch.cat(pieces, 2)


def _similarity(x: Tensor, y: Tensor, x_offset: Tensor, y_offset: Tensor) -> Tensor:
    """Similarity of x + x_offset and y + y_offset, in units of the data range."""
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variances = _local_mean(x.square() + y.square()) - mean_x.square() - mean_y.square()
    difference, mean_difference = x - y, mean_x - mean_y
    variance = _local_mean(difference.square()) - mean_difference.square()
    mean_difference = mean_difference + (x_offset - y_offset)
    squares = (mean_x + x_offset).square() + (mean_y + y_offset).square()
    luminance = 1 - mean_difference.square() / (squares + K1**2)
    return luminance * (1 - variance.clamp(min=0) / (variances.clamp(min=0) + K2**2))


def _offset(images: Tensor) -> Tensor:
    """A value in the middle of each image and channel, [B, C, 1, ...], float64.

    The median of a sample, which single wild values, of pixels that do not count, cannot move.
    """
    values = images.detach().flatten(2)
    sample = values[..., :: max(1, values.shape[-1] // SAMPLE)].double().sort(-1).values
    middle = sample[..., sample.shape[-1] // 2]
    return middle.reshape(*middle.shape, *(1,) * (images.dim() - 2))


def _local_mean(images: Tensor) -> Tensor:
    """Weighted mean of each window inside images [B, C, *space], [B, C, *(space - 10)]."""
    for axis in range(2, images.dim()):
        size = images.shape[axis] - 2 * RADIUS
        blocks = []
        for start in range(0, size, BLOCK):
            window = _window(min(BLOCK, size - start), images)
            part = images.narrow(axis, start, window.shape[1])
            if axis == images.dim() - 1:
                blocks.append(part @ window.t())
            else:
                mean = window @ part.flatten(axis + 1)
                blocks.append(mean.unflatten(-1, images.shape[axis + 1 :]))
        images = torch.cat(blocks, axis)
    return images


def _window(size: int, like: Tensor) -> Tensor:
    """Matrix [size, size + 10] that computes the means of ``size`` windows along an axis.

    A matrix product is faster than a sum of shifted images, and much faster than torch's
    convolutions of single channels.
    """
    shifts = torch.arange(-RADIUS, RADIUS + 1, device=like.device)
    weights = torch.exp(-shifts.to(like.dtype).square() / (2 * SIGMA**2))
    sources = torch.arange(size, device=like.device)[:, None] + shifts + RADIUS
    matrix = like.new_zeros(size, size + 2 * RADIUS)
    return matrix.scatter_(1, sources, (weights / weights.sum()).expand(size, -1))

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
from collections.abc import Callable

import torch
from torch import Tensor

from msdtool.config import SSIM_WINDOW, multiscale_window
from msdtool.measure.masking import Total, masked_mean, of_one

SIGMA = 1.5
K1, K2 = 0.01, 0.03
RADIUS = SSIM_WINDOW // 2
BLOCK = 256  # pixels along an axis that one matrix product computes
PIECE = 2**21  # pixels computed at once, about
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of `multiscale_ssim`, from fine to coarse (Wang et al., Asilomar 2003, 3.2)."""
LEAST = 1e-6
"""The least mean similarity of a scale: powers below 1 have infinite slopes at 0."""
Factors = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Maps two images and their offsets to an image."""
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


def multiscale_ssim(
    output: Tensor,
    target: Tensor,
    data_range: float | None,
    scales: int = len(SCALE_WEIGHTS),
    mask: Tensor | None = None,
) -> Tensor:
    """Multi-scale structural similarity of each image, float64 [B] (Wang et al. 2003, eq. 7).

    The product over the scales of the mean of the second factor above, at the coarsest scale of
    both, each to the power of the scale's weight. A scale has half as many pixels along each axis
    as the one before, each the mean of 2 x 2 (x 2). Negative means count as `LEAST`.

    Args:
        output, target, data_range: as for `ssim_image`.
        scales: 1 to 5; the weights are those of the first ones, divided by their sum.
        mask: [B, 1, *space]: the pixels that count, at coarser scales those that contain one. A
            scale at which no pixel of an image counts has the similarity 1.

    Raises:
        ValueError: an axis is shorter than the window at the coarsest scale, or the shapes differ.
    """
    smallest, needed = min(output.shape[2:]), multiscale_window(scales)
    if smallest < needed:
        raise ValueError(
            f"MS-SSIM with {scales} scales needs images of at least {needed} pixels, got "
            f"{smallest}; lower training.ms_ssim_scales"
        )
    weights = SCALE_WEIGHTS[:scales]
    if data_range is None:
        data_range = wider_range(output, target)
    x, y = output.double(), target.double()  # means of 2 x 2 in float32 would round offsets
    similarity = x.new_ones(len(x))
    for scale, weight in enumerate(weights, 1):
        factors = _similarity if scale == scales else _structure
        difference = (1 - _image(x, y, data_range, factors)).flatten(1)
        if mask is None:
            mean = difference.mean(1)
        else:
            counts = inside(mask).expand(-1, x.shape[1], *(-1,) * (x.dim() - 2)).flatten(1)
            mean = (difference * counts).sum(1) / counts.sum(1).clamp(min=1)
        similarity = similarity * (1 - mean).clamp(min=LEAST) ** (weight / sum(weights))
        if scale < scales:
            x, y = _blocks(x).mean(-1), _blocks(y).mean(-1)
            mask = None if mask is None else _blocks(mask).any(-1)
    return similarity


def _blocks(images: Tensor) -> Tensor:
    """The pixels of each 2 x 2 (x 2) block of [B, C, *space], [B, C, *(space // 2), 4 or 8].

    Torch's own pooling has no deterministic gradient of volumes on a GPU.
    """
    for axis in range(2, images.dim()):
        half = images.shape[axis] // 2
        # The halves of each pair become the last axis.
        pairs = images.narrow(axis, 0, 2 * half).unflatten(axis, (half, 2)).movedim(axis + 1, -1)
        images = pairs if axis == 2 else pairs.flatten(-2)
    return images


def wider_range(output: Tensor, target: Tensor) -> float:
    """Return the wider of the ranges of values of two batches."""
    return float(max(x.detach().max() - x.detach().min() for x in (output, target)))


def ssim_image(output: Tensor, target: Tensor, data_range: float | None) -> Tensor:
    """Structural similarity at each pixel whose window lies inside, float64 [B, C, *(space - 10)].

    Args:
        output, target: [B, C, *space].
        data_range: value range that the constants refer to; None: the wider of the two ranges.

    Raises:
        ValueError: an axis is shorter than the window, or the shapes differ.
    """
    return _image(output, target, data_range, _similarity)


def _image(output: Tensor, target: Tensor, data_range: float | None, factors: Factors) -> Tensor:
    """`ssim_image`, or an image of some of its factors alone."""
    if output.shape != target.shape:
        raise ValueError(f"SSIM of {tuple(output.shape)} and {tuple(target.shape)} is not defined")
    smallest = min(output.shape[2:])
    if smallest < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} pixels, got {smallest}")
    if data_range is None:
        data_range = wider_range(output, target)
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
        pieces.append(factors(x, y, *(offset / unit for offset in offsets)))
    return torch.cat(pieces, 2)


def _similarity(x: Tensor, y: Tensor, x_offset: Tensor, y_offset: Tensor) -> Tensor:
    """Similarity of x + x_offset and y + y_offset, in units of the data range."""
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    mean_difference = mean_x - mean_y + (x_offset - y_offset)
    squares = (mean_x + x_offset).square() + (mean_y + y_offset).square()
    luminance = 1 - mean_difference.square() / (squares + K1**2)
    return luminance * _similar_structure(x, y, mean_x, mean_y)


def _structure(x: Tensor, y: Tensor, *_offsets: Tensor) -> Tensor:
    """The second factor of `_similarity`, which offsets do not change."""
    return _similar_structure(x, y, _local_mean(x), _local_mean(y))


def _similar_structure(x: Tensor, y: Tensor, mean_x: Tensor, mean_y: Tensor) -> Tensor:
    variances = _local_mean(x.square() + y.square()) - mean_x.square() - mean_y.square()
    variance = _local_mean((x - y).square()) - (mean_x - mean_y).square()
    return 1 - variance.clamp(min=0) / (variances.clamp(min=0) + K2**2)


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

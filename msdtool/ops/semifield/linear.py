"""Semifields that are the linear field in disguise.

If a map takes the semifield's product to the ordinary product and its sum to the ordinary sum, its
convolution is an ordinary convolution between the map and its inverse, at the full speed of torch's
own: x -> x^p for the root semifields, x -> exp(mu x) for the log semifields.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from msdtool.ops.semifield.geometry import Geometry
from msdtool.ops.semifield.operations import LinearConv

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def linear_conv(img: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
    """Compute torch's convolution with the padding of a semifield convolution; 1 to 3 axes."""
    pads: tuple[int, ...] = tuple(begin for begin, _ in geometry.pads)
    if any(pair != (pair[0],) * 2 or pair[0] < 0 for pair in geometry.pads):
        img = F.pad(img, [pad for pair in reversed(geometry.pads) for pad in pair])
        pads = (0,) * geometry.ndim
    # NNPACK uses Winograd's method, whose errors are relative to the largest value nearby: after
    # exp() or pow() they are too large.
    with torch.backends.nnpack.flags(enabled=False):
        return CONVOLUTIONS[geometry.ndim](
            img, kernel, None, geometry.stride, pads, geometry.dilation, geometry.groups
        )


def linear_by_linear(img: Tensor, kernel: Tensor, conv: LinearConv) -> Tensor:
    """The linear field itself."""
    return conv(img, kernel)


def root_by_linear(img: Tensor, kernel: Tensor, conv: LinearConv, p: float) -> Tensor | None:
    """The root semifield R_p: (sum (img * kernel)^p)^(1/p).

    Returns:
        None if factors are negative and p is not an integer: then the power of a product may be
        real while the powers of its factors are NaN.
    """
    if not float(p).is_integer() and (img.detach() < 0).any() and (kernel.detach() < 0).any():
        return None
    return root_of_sum(conv(img.pow(p), kernel.pow(p)), p)


def root_of_sum(total: Tensor, p: float) -> Tensor:
    """total^(1/p). The gradient at 0, undefined because all terms are 0, is defined as 0.

    For negative p a sum is 0 where the window lies entirely in the padding; its root is infinite.
    """
    zero = total == 0
    return total.masked_fill(zero, 1).pow(1 / p).masked_fill(zero, 0 if p > 0 else math.inf)


def log_by_linear(img: Tensor, kernel: Tensor, conv: LinearConv, mu: float) -> Tensor | None:
    """The log semifield L_mu: ln(sum exp(mu (img + kernel))) / mu.

    The largest image value and the largest value of each kernel are factored out first, so nothing
    overflows. Underflow must be negligible: every sum has to be so large that terms below the
    smallest number are within its rounding error. float64 is tried if the image's dtype fails.

    Returns:
        None if the image's values differ by too much for this, by several hundred / mu.
    """
    if img.numel() == 0:
        return conv(img, kernel)
    exponents, weights = img * mu, kernel * mu
    top = exponents.detach().amax()
    tops = weights.detach().flatten(1).amax(1).view(-1, *(1,) * (kernel.dim() - 1))
    for dtype in dict.fromkeys((img.dtype, torch.float64)):
        total = conv((exponents - top).to(dtype).exp(), (weights - tops).to(dtype).exp())
        limits = torch.finfo(dtype)
        # A sum has fewer than 1 / eps terms, even in float32.
        if total.detach().amin() > limits.tiny / limits.eps**2:
            logs = total.log().to(img.dtype)
            return (logs + (top + tops.squeeze(1).unsqueeze(0))) / mu
    return None

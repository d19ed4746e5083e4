"""The broadcast formulation: all terms of all sums at once, reduced by one torch function.

It needs memory for the number of terms times the output, and several times that in the backward
pass.
"""

import torch.nn.functional as F
from torch import Tensor

from msdtool.ops.semifield.geometry import Geometry
from msdtool.ops.semifield.operations import BroadcastOperations


def broadcast_by_windows(
    img: Tensor,
    kernel: Tensor,
    semifield: BroadcastOperations,
    geometry: Geometry,
    unfold_copy: bool,
) -> Tensor:
    """Compute `broadcast_conv`."""
    if unfold_copy and geometry.ndim != 2:
        raise ValueError(f"unfold_copy needs 2 spatial axes; the image has {geometry.ndim}")
    padded = pad_image(img, semifield.zero, geometry)
    windows = _copy_windows(padded, geometry) if unfold_copy else unfold_windows(padded, geometry)
    ndim, groups = geometry.ndim, geometry.groups
    # Both as [B, groups, out, in, *K, *out_space].
    windows = windows.unflatten(1, (groups, 1, geometry.in_channels))
    by_group = kernel.unflatten(0, (1, groups, geometry.out_channels))
    terms = semifield.multiply(windows, by_group[(...,) + (None,) * ndim])
    channel_dim, kernel_dims = 3, tuple(range(4, 4 + ndim))
    if semifield.add_reduce_channels is None:
        output = semifield.add_reduce(terms, (channel_dim, *kernel_dims))
    else:
        per_channel = semifield.add_reduce(terms, kernel_dims)
        output = semifield.add_reduce_channels(per_channel, channel_dim)
    return output.flatten(1, 2)


def pad_image(img: Tensor, value: float, geometry: Geometry) -> Tensor:
    """Pad or crop the spatial axes of an image [B, C, *space]."""
    return F.pad(img, [pad for pair in reversed(geometry.pads) for pad in pair], value=value)


def unfold_windows(padded: Tensor, geometry: Geometry) -> Tensor:
    """Return a view [B, C, *K, *out_space] of the padded image."""
    for axis in range(geometry.ndim):
        dilation = geometry.dilation[axis]
        reach = dilation * (geometry.kernel_size[axis] - 1) + 1
        padded = padded.unfold(2 + axis, reach, geometry.stride[axis])[..., ::dilation]
    pixels, taps = range(2, 2 + geometry.ndim), range(2 + geometry.ndim, 2 + 2 * geometry.ndim)
    return padded.permute(0, 1, *taps, *pixels)


def _copy_windows(padded: Tensor, geometry: Geometry) -> Tensor:
    columns = F.unfold(
        padded, geometry.kernel_size, dilation=geometry.dilation, stride=geometry.stride
    )
    shape = (*padded.shape[:2], *geometry.kernel_size, *geometry.out_space)
    return columns.view(shape)

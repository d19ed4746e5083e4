"""Select and Subtract convolutions in plain torch, from unfolded windows, by autograd.

They do not use the semifield's own derivatives, and so check these independently.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from msdtool.ops.semifield.broadcast import pad_image, unfold_windows
from msdtool.ops.semifield.geometry import Geometry
from msdtool.ops.semifield.operations import SelectOperations, SubtractOperations


def select_conv(
    img: Tensor, kernel: Tensor, semifield: SelectOperations, geometry: Geometry
) -> Tensor:
    """Reference for `select_by_terms`."""
    best = _zeros(img, semifield.zero, geometry)
    for image, weight, inside in _terms(img, kernel, geometry):
        values = semifield.times(image, weight)
        best = torch.where(semifield.add_select(best, values) & inside, values, best)
    return best.flatten(1, 2)


def subtract_conv(
    img: Tensor, kernel: Tensor, semifield: SubtractOperations, geometry: Geometry
) -> Tensor:
    """Reference for `subtract_by_terms`."""
    total = _zeros(img, semifield.zero, geometry)
    for image, weight, inside in _terms(img, kernel, geometry):
        values = semifield.times(image, weight)
        total = torch.where(inside, semifield.add(total, values), total)
    output = total if semifield.post_sum is None else semifield.post_sum(total)
    return output.flatten(1, 2)


def _zeros(img: Tensor, zero: float, geometry: Geometry) -> Tensor:
    shape = (len(img), geometry.groups, geometry.out_channels, *geometry.out_space)
    return img.new_full(shape, zero)


def _terms(
    img: Tensor, kernel: Tensor, geometry: Geometry
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield image [B, groups, 1, *out_space], kernel [groups, out, 1...] and a mask of the image.

    Values outside the image are masked; they are 1, for which ``times`` is always defined.
    """
    windows = unfold_windows(pad_image(img, 1, geometry), geometry)
    windows = windows.unflatten(1, (geometry.groups, 1, geometry.in_channels))
    inside = unfold_windows(pad_image(torch.ones_like(img[:1, :1]), 0, geometry), geometry) > 0
    weights = kernel.unflatten(0, (geometry.groups, geometry.out_channels))
    for channel in range(geometry.in_channels):
        for tap in geometry.offsets:
            weight = weights[(slice(None), slice(None), channel, *tap)]
            yield (
                windows[(slice(None), slice(None), slice(None), channel, *tap)],
                weight.view(*weight.shape, *(1,) * geometry.ndim),
                inside[(0, 0, *tap)],
            )

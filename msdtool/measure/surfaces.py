"""How far the surfaces of labelled regions are from those of the targets, in pixels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msdtool.data import IGNORED
from msdtool.measure.distances import squared_distances

NAMES = ("hd95", "assd")
PERCENTILE = 95


def surface_metrics(output: Tensor, target: Tensor, labels: Sequence[int]) -> dict[str, Any]:
    """Return HD95 and ASSD of each label of an image, in pixels, by the label's value.

    The surface of a region is its pixels that have a neighbour, along an axis, outside of it;
    outside the image, and where pixels do not count, is outside. HD95 is the 95th percentile of
    the distances from the pixels of one surface to the nearest one of the other, the larger of the
    two ways round (Huttenlocher et al., IEEE TPAMI 1993, eq. 1, with the percentile for the
    maximum). ASSD, the average symmetric surface distance, is the mean of the distances of both
    ways together (Heimann et al., IEEE TMI 2009).

    Args:
        output: class indices [*space].
        target: likewise; pixels that are `IGNORED` do not count.
        labels: the label values, in the order of the indices.

    Returns:
        "hd95" and "assd", each by label: NaN if the label is in neither image, infinite if it is
        in one of them alone.
    """
    counts = target != IGNORED
    values: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    for index, label in enumerate(labels):
        found = _surface_metrics((output == index) & counts, target == index)
        for name, value in zip(NAMES, found, strict=True):
            values[name][str(label)] = value
    return values


def _surface_metrics(found: Tensor, true: Tensor) -> tuple[float, float]:
    """HD95 and ASSD of two regions [*space], bool."""
    present = [bool(region.any()) for region in (found, true)]
    if not all(present):
        value = math.inf if any(present) else math.nan
        return value, value
    box = _bounding_box(found | true)
    surfaces = torch.stack([surface(found[box]), surface(true[box])])
    ways = []
    for own, squared in zip(surfaces, squared_distances(surfaces).flip(0), strict=True):
        ways.append(squared[own].double().sqrt().cpu().numpy())
    hd95 = max(float(np.percentile(way, PERCENTILE)) for way in ways)
    return hd95, float(np.concatenate(ways).mean())


def surface(region: Tensor) -> Tensor:
    """The pixels of a region [*space], bool, that have a neighbour along an axis outside of it."""
    inner = region.clone()
    for axis, length in enumerate(region.shape):
        inner.narrow(axis, 0, 1).fill_(False)
        inner.narrow(axis, length - 1, 1).fill_(False)
        for start, neighbour in ((0, 1), (1, 0)):
            part = inner.narrow(axis, start, length - 1)
            part &= region.narrow(axis, neighbour, length - 1)
    return region & ~inner


def _bounding_box(region: Tensor) -> tuple[slice, ...]:
    box = []
    for axis in range(region.dim()):
        lines = region.movedim(axis, 0).flatten(1).any(1).nonzero()
        box.append(slice(int(lines[0]), int(lines[-1]) + 1))
    return tuple(box)


def mean_surface_metrics(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of `surface_metrics` over the images whose output and target have the label.

    Args:
        images: per image, the result of `surface_metrics`.

    Returns:
        "hd95" and "assd", NaN where no image has both, and "surface_images", the number of images
        of each mean; all by label.
    """
    labels = images[0]["hd95"] if images else {}
    finite = {
        name: {
            label: [image[name][label] for image in images if math.isfinite(image[name][label])]
            for label in labels
        }
        for name in NAMES
    }
    means = {
        name: {
            label: math.fsum(values) / len(values) if values else math.nan
            for label, values in by_label.items()
        }
        for name, by_label in finite.items()
    }
    return {**means, "surface_images": {k: len(values) for k, values in finite["hd95"].items()}}

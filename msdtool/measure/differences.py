"""Differences between the metrics of two networks, image by image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msdtool.measure.bootstrap import interval_of_means

Image = Mapping[str, Any]
"""The metrics of an image, by name, or by name and label."""


def paired_differences(first: Sequence[Image], other: Sequence[Image]) -> dict[str, dict[str, Any]]:
    """Return what another network's metrics differ by, image by image.

    Comparing image by image leaves out what makes images differ from each other.

    Args:
        first: the metrics of each image; None stands for a value that is not finite.
        other: those of the other network, of the same images.

    Returns:
        By metric, such as "psnr" or "iou 127": the mean ``difference``, other - first, over the
        ``images`` in which both are finite, and its 95 % ``interval``, see `bootstrap`.
    """
    pairs = [(flat_metrics(a), flat_metrics(b)) for a, b in zip(first, other, strict=True)]
    names = list(dict.fromkeys(name for a, b in pairs for name in a if name in b))
    values = np.array(
        [[b.get(name, np.nan) - a.get(name, np.nan) for name in names] for a, b in pairs]
    ).reshape(len(pairs), len(names))
    return {
        name: {
            "difference": float(np.nanmean(column)),
            "interval": bounds.tolist(),
            "images": int(np.isfinite(column).sum()),
        }
        for name, column, bounds in zip(names, values.T, interval_of_means(values).T, strict=True)
    }


def flat_metrics(image: Image) -> dict[str, float]:
    """The finite metrics of an image, by name and label, such as "psnr" or "iou 127"."""
    found = {}
    for name, value in image.items():
        by_name = {name: value}
        if isinstance(value, Mapping):
            by_name = {f"{name} {label}": item for label, item in value.items()}
        for key, item in by_name.items():
            if isinstance(item, float) and np.isfinite(item):
                found[key] = item
    return found

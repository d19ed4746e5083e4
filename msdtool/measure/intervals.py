"""Intervals of the metrics of a set of images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from msdtool.measure.bootstrap import Array, interval, interval_of_means
from msdtool.measure.metrics import IntervalMetrics, label_metrics
from msdtool.measure.surfaces import NAMES as SURFACE_NAMES

Image = Mapping[str, Any]
"""The metrics of an image, by name, or by name and label."""


def metric_intervals(images: Sequence[Image]) -> dict[str, Any]:
    """Return the 95 % interval [low, high] of each metric over the images; see `bootstrap`.

    Args:
        images: the metrics of each image: those of `RegressionMetrics.update`, or of
            `SegmentationMetrics.update` with those of `surface_metrics`.

    Returns:
        Intervals by name, or by name and label; NaN for a metric that no image has, and for less
        than two images.
    """
    if not images:
        return {}
    if "pixels" not in images[0]:
        names = [name for name in IntervalMetrics.NAMES if name in images[0]]
        values = np.array([[image[name] for name in names] for image in images])
        bounds = interval_of_means(values).T.tolist()
        return dict(zip(names, bounds, strict=True))
    labels = list(images[0]["pixels"])
    return {**_label_intervals(images, labels), **_surface_intervals(images, labels)}


def _label_intervals(images: Sequence[Image], labels: Sequence[str]) -> dict[str, Any]:
    counts = np.array([[image["pixels"][label] for label in labels] for image in images])
    flat = counts.transpose(0, 2, 1).reshape(len(images), -1).astype(np.float64)  # [N, 3 * K]

    def metrics(draws: Array) -> dict[str, torch.Tensor]:
        return label_metrics(torch.from_numpy(draws @ flat).unflatten(-1, (3, -1)))

    def columns(draws: Array) -> Array:
        values = [value.reshape(len(draws), -1) for value in metrics(draws).values()]
        return torch.cat(values, 1).numpy()

    bounds = interval(columns, len(images)).T.tolist()
    found: dict[str, Any] = {}
    for name, value in metrics(np.ones((1, len(images)))).items():
        if value.dim() > 1:
            found[name] = {label: bounds.pop(0) for label in labels}
        else:
            found[name] = bounds.pop(0)
    return found


def _surface_intervals(images: Sequence[Image], labels: Sequence[str]) -> dict[str, Any]:
    found = {}
    for name in SURFACE_NAMES:
        values = np.array([[image[name][label] for label in labels] for image in images])
        # Like the mean: over the images whose output and target have the label.
        bounds = interval_of_means(np.where(np.isfinite(values), values, np.nan)).T.tolist()
        found[name] = dict(zip(labels, bounds, strict=True))
    return found

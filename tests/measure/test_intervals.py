"""Intervals of metrics against ones drawn and computed one by one in numpy."""

import math

import numpy as np
import pytest
import torch

from msdtool.measure.bootstrap import RESAMPLES, SEED, interval_of_means
from msdtool.measure.intervals import metric_intervals
from msdtool.measure.metrics import RegressionMetrics, SegmentationMetrics
from msdtool.measure.surfaces import surface_metrics

LABELS = [0, 127, 255]


def percentiles(values):
    values = np.sort(values)
    ranks = [math.ceil(q * len(values)) - 1 for q in (0.025, 0.975)]
    return [values[rank] for rank in ranks]


def test_intervals_of_a_regression_are_those_of_each_mean():
    rng = np.random.default_rng(0)
    images = [dict(zip(RegressionMetrics.NAMES, rng.random(4), strict=True)) for _ in range(9)]
    images[3]["ssim"] = math.nan
    found = metric_intervals(images)
    assert found.keys() == set(RegressionMetrics.NAMES)
    draws = np.random.default_rng(SEED).integers(0, 9, (RESAMPLES, 9))
    for name in found:
        values = np.array([image[name] for image in images])
        assert found[name] == pytest.approx(percentiles(np.nanmean(values[draws], 1)))


def segmented(count):
    """Rows of images whose outputs are partly wrong; the last label is in the first one only."""
    rng = np.random.default_rng(1)
    metrics, rows, pairs = SegmentationMetrics(LABELS), [], []
    for number in range(count):
        target = rng.integers(0, 3 if number == 0 else 2, (6, 7))
        output = np.where(rng.random((6, 7)) < 0.7, target, 0)
        scores = torch.nn.functional.one_hot(torch.tensor(output), 3).movedim(-1, 0)[None].float()
        row = metrics.update(scores, torch.tensor(target)[None, None])
        rows.append(row | surface_metrics(torch.tensor(output), torch.tensor(target), LABELS))
        pairs.append((output, target))
    return rows, pairs


def test_intervals_of_a_segmentation_come_from_the_pixels_of_the_images_drawn():
    rows, pairs = segmented(6)
    found = metric_intervals(rows)
    draws = np.random.default_rng(SEED).integers(0, 6, (RESAMPLES, 6))
    accuracy, recall, precision, iou = [], [], [], []
    for draw in draws:
        o, t = (np.concatenate([pairs[i][k].ravel() for i in draw]) for k in (0, 1))
        accuracy.append(np.mean(o == t))
        recall.append(np.mean(o[t == 1] == 1))
        precision.append(np.mean(t[o == 0] == 0))
        both = [((o == k) & (t == k)).sum() for k in range(3)]
        either = [((o == k) | (t == k)).sum() for k in range(3)]
        iou.append(np.mean([b / e for b, e in zip(both, either, strict=True) if e]))
    assert found["accuracy"] == pytest.approx(percentiles(accuracy))
    assert found["recall"]["127"] == pytest.approx(percentiles(recall))
    assert found["precision"]["0"] == pytest.approx(percentiles(precision))
    assert found["mean_iou"] == pytest.approx(percentiles(iou))
    assd = np.array([row["assd"]["127"] for row in rows])
    assert found["assd"]["127"] == pytest.approx(interval_of_means(assd[:, None])[:, 0])
    only = rows[0]["hd95"]["255"]
    assert found["hd95"]["255"] == [only, only]  # where it was drawn
    assert metric_intervals([]) == {}

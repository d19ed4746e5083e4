"""Intervals and differences of metrics against ones drawn and computed one by one in numpy."""

import math

import numpy as np
import pytest
import torch

from msdtool.measure.bootstrap import RESAMPLES, SEED, interval_of_means
from msdtool.measure.intervals import flat_metrics, metric_intervals, paired_differences
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


def test_differences_are_paired_image_by_image():
    rng = np.random.default_rng(3)
    hard = 10 * rng.random(30)  # what makes images differ, for both networks alike
    gain = 0.5 + 0.1 * rng.normal(size=30)
    first = [{"image": "a", "psnr": float(h), "mse": 1.0} for h in hard]
    other = [
        {"image": "a", "psnr": float(p), "iou": {"7": 0.5}, "pixels": {"7": [1, 2, 3]}}
        for p in hard + gain
    ]
    other[4]["psnr"] = None
    found = paired_differences(first, other)
    assert found.keys() == {"psnr"}
    expected = np.delete(gain, 4)
    assert found["psnr"]["images"] == 29
    assert found["psnr"]["difference"] == pytest.approx(expected.mean())
    low, high = found["psnr"]["interval"]
    assert 0.4 < low < expected.mean() < high < 0.6
    draws = np.random.default_rng(SEED).integers(0, 30, (RESAMPLES, 30))
    gain[4] = math.nan
    assert found["psnr"]["interval"] == pytest.approx(percentiles(np.nanmean(gain[draws], 1)))
    assert paired_differences([{"psnr": None}], [{"psnr": 1.0}]) == {}


def test_metrics_by_label_have_names_of_their_own_and_only_finite_ones_count():
    image = {"image": "x", "psnr": math.inf, "ssim": 0.5, "iou": {"0": 0.25, "7": None}}
    assert flat_metrics(image) == {"ssim": 0.5, "iou 0": 0.25}

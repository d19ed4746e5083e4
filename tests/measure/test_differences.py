"""Differences between two networks, and their intervals, against resamples drawn in numpy."""

import math

import numpy as np
import pytest

from msdtool.measure.bootstrap import RESAMPLES, SEED
from msdtool.measure.differences import flat_metrics, paired_differences
from tests.measure.test_intervals import percentiles


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

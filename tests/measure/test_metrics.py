"""Metrics against numpy formulas in float64, scikit-image, and counts pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from msdtool.data import IGNORED
from msdtool.measure.metrics import (
    IntervalMetrics,
    RegressionMetrics,
    SegmentationMetrics,
    build_metrics,
    confusion_matrix,
    psnr,
)

from .test_ssim import ssim_formula

LABELS = [0, 127, 255]


def images(count, shape=(1, 2, 12, 13), seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(3, 1, shape), rng.normal(3, 1, shape)) for _ in range(count)]


def regression_formula(output, target, data_range, chosen=True):
    chosen = np.broadcast_to(chosen, output.shape)
    difference = (output - target)[chosen]
    ssim = [ssim_formula(a, b, data_range) for a, b in zip(output[0], target[0], strict=True)]
    return {
        "mse": np.mean(difference**2),
        "mae": np.mean(np.abs(difference)),
        "psnr": 10 * np.log10(data_range**2 / np.mean(difference**2)),
        "ssim": np.mean(np.array([ssim])[chosen[(..., *(slice(5, -5),) * (chosen.ndim - 2))]]),
    }


@pytest.mark.parametrize("shape", [(1, 2, 12, 13), (1, 1, 11, 12, 13)])
@pytest.mark.parametrize("data_range", [1.0, 7.5])
def test_regression_metrics_are_means_over_images_of_the_formulas(shape, data_range):
    metrics = RegressionMetrics(data_range)
    expected = []
    for output, target in images(3, shape):
        row = metrics.update(torch.tensor(output), torch.tensor(target))
        expected.append(regression_formula(output, target, data_range))
        assert row == pytest.approx(expected[-1], rel=1e-6)
    means = {key: np.mean([row[key] for row in expected]) for key in expected[0]}
    assert metrics.compute() == pytest.approx({**means, "data_range": data_range}, rel=1e-6)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("shape", [(1, 1, 40, 31), (1, 3, 9, 12), (1, 2, 5, 6, 7)])
def test_psnr_is_that_of_scikit_image(shape, dtype, accuracy):
    ((output, target),) = images(1, shape)
    expected = peak_signal_noise_ratio(target, output, data_range=6.5)
    found = psnr(torch.tensor(output - target, dtype=dtype), 6.5)
    assert found.dtype == dtype
    assert found.item() == pytest.approx(expected, rel=accuracy)


def test_psnr_grows_by_6_decibels_when_the_data_range_doubles():
    ((output, target),) = images(1)
    one, two = (
        RegressionMetrics(data_range).update(torch.tensor(output), torch.tensor(target))["psnr"]
        for data_range in (1.0, 2.0)
    )
    assert two - one == pytest.approx(20 * math.log10(2))


def test_a_mask_chooses_the_pixels_that_regression_metrics_count():
    ((output, target),) = images(1)
    mask = np.random.default_rng(1).random((1, 1, 12, 13)) < 0.4
    row = RegressionMetrics(2.0).update(
        torch.tensor(output), torch.tensor(target), torch.tensor(mask)
    )
    assert row == pytest.approx(regression_formula(output, target, 2.0, mask), rel=1e-6)


def test_a_perfect_output_has_infinite_psnr_and_ssim_1():
    x = torch.rand(1, 1, 12, 12)
    row = RegressionMetrics(1.0).update(x, x)
    assert row == {"mse": 0, "mae": 0, "psnr": math.inf, "ssim": pytest.approx(1)}


def test_ssim_of_an_image_smaller_than_the_window_is_not_a_number():
    x = torch.rand(1, 1, 10, 30)
    row = RegressionMetrics(1.0).update(x, x + 1)
    assert math.isnan(row["ssim"])
    assert row["psnr"] == pytest.approx(0, abs=1e-5)


def test_the_mean_of_ssim_is_over_the_images_that_have_one():
    ((output, target),) = images(1)
    metrics = RegressionMetrics(1.0)
    expected = metrics.update(torch.tensor(output), torch.tensor(target))["ssim"]
    border = torch.zeros(1, 1, 12, 13, dtype=torch.bool)
    border[..., 0, :] = True
    row = metrics.update(torch.tensor(output), torch.tensor(target), border)
    assert math.isnan(row["ssim"])
    assert math.isfinite(row["psnr"])
    metrics.update(torch.rand(1, 1, 10, 30), torch.rand(1, 1, 10, 30))
    assert metrics.compute()["ssim"] == expected


@pytest.mark.parametrize("unit", [1e-30, 1e-3, 1e25])
@pytest.mark.parametrize("offset", [0.0, 30_000.0])
def test_metrics_of_float32_do_not_depend_on_the_unit(unit, offset):
    rng = np.random.default_rng(0)
    target = np.float32(unit) * (offset + rng.normal(size=(1, 1, 20, 21))).astype(np.float32)
    output = target + np.float32(unit) * rng.normal(0, 0.3, target.shape).astype(np.float32)
    row = RegressionMetrics(4 * unit).update(torch.tensor(output), torch.tensor(target))
    expected = regression_formula(output.astype(float) / unit, target.astype(float) / unit, 4.0)
    assert row["psnr"] == pytest.approx(expected["psnr"], rel=1e-9)
    assert row["mse"] == pytest.approx(expected["mse"] * unit**2, rel=1e-9)
    assert row["mae"] == pytest.approx(expected["mae"] * unit, rel=1e-9)
    assert row["ssim"] == pytest.approx(expected["ssim"], rel=1e-4)


def test_an_image_that_is_masked_out_does_not_count():
    ((output, target),) = images(1)
    metrics = RegressionMetrics(1.0)
    metrics.update(torch.tensor(output), torch.tensor(target))
    alone = metrics.compute()
    nowhere = torch.zeros(1, 1, 12, 13, dtype=torch.bool)
    row = metrics.update(torch.tensor(output), torch.tensor(target), nowhere)
    assert all(map(math.isnan, row.values()))
    assert metrics.compute() == alone


@pytest.mark.parametrize("masked", [False, True])
def test_intervals_are_measured_by_what_they_hold_and_their_width(masked):
    rng = np.random.default_rng(2)
    metrics, plain, expected = IntervalMetrics(2.0), RegressionMetrics(2.0), []
    for output, target in images(3):
        low, high = output - rng.random(output.shape), output + rng.random(output.shape) - 0.1
        mask = rng.random((1, 1, 12, 13)) < 0.7 if masked else np.ones((1, 1, 12, 13), bool)
        given = [torch.tensor(target), torch.tensor(mask) if masked else None]
        row = metrics.update(torch.tensor(np.concatenate([output, low, high], 1)), *given)
        assert plain.update(torch.tensor(output), *given).items() <= row.items()
        chosen = np.broadcast_to(mask, target.shape)
        inside, width = (low <= target) & (target <= high), np.maximum(high - low, 0)
        expected.append((inside[chosen].mean(), width[chosen].mean()))
        assert (row["coverage"], row["width"]) == pytest.approx(expected[-1], rel=1e-12)
    nowhere = torch.zeros(1, 1, 12, 13, dtype=torch.bool)
    assert all(
        map(math.isnan, metrics.update(torch.zeros(1, 6, 12, 13), given[0], nowhere).values())
    )
    found = metrics.compute()
    assert (found["coverage"], found["width"]) == pytest.approx(np.mean(expected, 0), rel=1e-12)
    again = IntervalMetrics(2.0)
    again.load_state(metrics.state())
    assert again.compute() == found


def test_metrics_of_nothing_are_not_numbers():
    values = RegressionMetrics(1.0).compute()
    assert all(math.isnan(values[name]) for name in ("mse", "mae", "psnr", "ssim"))


@settings(deadline=None, max_examples=20)
@given(num_labels=st.integers(1, 5), seed=st.integers(0, 99), ignored=st.floats(0, 1))
def test_the_confusion_matrix_counts_pairs_of_labels(num_labels, seed, ignored):
    rng = np.random.default_rng(seed)
    output, target = rng.integers(0, num_labels, (2, 1, 3, 4, 5))
    target[rng.random(target.shape) < ignored] = IGNORED
    expected = np.zeros((num_labels, num_labels), int)
    for guess, truth in zip(output.flat, target.flat, strict=True):
        if truth != IGNORED:
            expected[truth, guess] += 1
    found = confusion_matrix(torch.tensor(output), torch.tensor(target), num_labels)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found, expected)


def test_labels_make_it_a_segmentation():
    assert isinstance(build_metrics([], 2.0), RegressionMetrics)
    assert isinstance(build_metrics(LABELS, 0.0), SegmentationMetrics)


def scored(indices, labels=3):
    """Scores [1, K, H, W] whose largest is at ``indices`` [H, W]."""
    return torch.nn.functional.one_hot(torch.tensor(indices), labels).movedim(-1, 0)[None].float()


def segmentation_formula(outputs, targets):
    """From the counts of all pixels together; None where nothing counts."""
    o, t = np.concatenate(outputs, None), np.concatenate(targets, None)
    o, t = o[t != IGNORED], t[t != IGNORED]
    hits = [np.sum((o == k) & (t == k)) for k in range(3)]
    union = [np.sum((o == k) | (t == k)) for k in range(3)]
    sizes = [np.sum(o == k) + np.sum(t == k) for k in range(3)]
    iou = [h / u if u else math.nan for h, u in zip(hits, union, strict=True)]
    dice = [2 * h / s if s else math.nan for h, s in zip(hits, sizes, strict=True)]
    correct = {k: o[t == k] == k for k in range(3)}, {k: t[o == k] == k for k in range(3)}
    recall, precision = ([np.mean(c[k]) if c[k].size else math.nan for k in range(3)]
                         for c in correct)  # fmt: skip
    return {
        "precision": dict(zip(map(str, LABELS), precision, strict=True)),
        "recall": dict(zip(map(str, LABELS), recall, strict=True)),
        "accuracy": np.mean(o == t),
        "mean_iou": np.nanmean(iou),
        "mean_dice": np.nanmean(dice),
        "iou": dict(zip(map(str, LABELS), iou, strict=True)),
        "dice": dict(zip(map(str, LABELS), dice, strict=True)),
    }


def flat(values):
    """Without the counts of an image, which the metrics are made of."""
    by_label = {k: v for k, v in values.items() if isinstance(v, dict) and k != "pixels"}
    scalars = {k: v for k, v in values.items() if not isinstance(v, dict)}
    return scalars | {(k, label): x for k, v in by_label.items() for label, x in v.items()}


def check_same(found, expected):
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, nan_ok=True), key


@settings(deadline=None, max_examples=20)
@given(
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
    present=st.sampled_from([[0, 1, 2], [0, 2], [1], [0, 1, IGNORED]]),
)
def test_segmentation_metrics_come_from_the_counts_of_all_images(count, seed, present):
    rng = np.random.default_rng(seed)
    metrics = SegmentationMetrics(LABELS)
    outputs, targets = [], []
    for _ in range(count):
        target = rng.choice(present, (5, 6))
        target[0, 0] = present[0]
        output = rng.choice([k for k in present if k != IGNORED], (5, 6))
        row = metrics.update(scored(output), torch.tensor(target)[None, None])
        check_same(row, segmentation_formula([output], [target]))
        outputs.append(output)
        targets.append(target)
    check_same(metrics.compute(), segmentation_formula(outputs, targets))


def test_the_pixels_of_an_image_are_counted_by_label():
    target = np.array([[0, 0, 2, 2, IGNORED]])
    values = SegmentationMetrics(LABELS).update(
        scored(np.array([[0, 2, 2, 2, 1]])), torch.tensor(target)[None, None]
    )
    assert values["pixels"] == {"0": [1, 2, 1], "127": [0, 0, 0], "255": [2, 2, 3]}


def test_a_label_absent_everywhere_is_nan_and_left_out_of_the_means():
    target = np.array([[0, 0, 2, 2]])
    values = SegmentationMetrics(LABELS).update(
        scored(np.array([[0, 2, 2, 2]])), torch.tensor(target)[None, None]
    )
    assert math.isnan(values["iou"]["127"]) and math.isnan(values["dice"]["127"])
    assert values["mean_iou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert values["mean_dice"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert values["accuracy"] == pytest.approx(3 / 4)


def test_a_mask_chooses_the_pixels_that_segmentation_metrics_count():
    rng = np.random.default_rng(0)
    output, target = rng.integers(0, 3, (2, 6, 6))
    mask = rng.random((6, 6)) < 0.5
    values = SegmentationMetrics(LABELS).update(
        scored(output), torch.tensor(target)[None, None], torch.tensor(mask)[None, None]
    )
    check_same(values, segmentation_formula([output], [np.where(mask, target, IGNORED)]))

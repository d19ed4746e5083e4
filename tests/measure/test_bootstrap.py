"""Intervals against scipy's bootstrap, theory, and resamples drawn one by one."""

import math

import numpy as np
import pytest
from scipy import stats

from msdtool.measure import bootstrap
from msdtool.measure.bootstrap import interval, interval_of_means, weighted_means


def test_the_interval_of_a_mean_is_about_that_of_scipy_and_of_theory():
    values = np.random.default_rng(0).gamma(2, size=60)
    low, high = interval_of_means(values[:, None])[:, 0]
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=2000, random_state=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * width)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(60), rel=0.1)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    bounds = interval_of_means(rng.normal(size=(50, 400)))
    assert np.mean((bounds[0] <= 0) & (bounds[1] >= 0)) == pytest.approx(0.95, abs=0.03)


def test_every_resample_has_as_many_images_and_blocks_change_nothing(monkeypatch):
    values = np.random.default_rng(2).normal(size=(7, 2))
    drawn = []

    def statistic(draws):
        drawn.append(draws)
        return weighted_means(draws, values)

    found = interval(statistic, 7)
    whole = np.concatenate(drawn)
    assert whole.shape == (bootstrap.RESAMPLES, 7)
    assert (whole.sum(1) == 7).all()
    assert whole.mean(0) == pytest.approx(np.ones(7), abs=0.1)
    monkeypatch.setattr(bootstrap, "BLOCK", 50)
    drawn.clear()
    np.testing.assert_array_equal(interval(statistic, 7), found)
    assert len(drawn) > 2
    np.testing.assert_array_equal(np.concatenate(drawn), whole)


def test_means_leave_out_nan_and_keep_infinity():
    values = np.array([[1.0, math.nan], [3.0, math.nan], [math.inf, 5.0]])
    draws = np.array([[1.0, 3.0, 0.0], [1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    expected = [[2.5, math.nan], [math.inf, 5], [math.inf, 5]]
    np.testing.assert_array_equal(weighted_means(draws, values), expected)


def test_a_perfect_image_does_not_hide_the_lower_end():
    values = np.array([[20.0], [21.0], [22.0], [math.inf]])
    low, high = interval_of_means(values)[:, 0]
    assert 20 <= low <= 22 and high == math.inf


@pytest.mark.parametrize("number", [0, 1])
def test_one_image_has_no_interval(number):
    assert np.isnan(interval_of_means(np.ones((number, 2)))).all()

"""Surface distances against scipy: erosion, distances from point to point, percentiles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.distance import cdist

from msdtool.data import IGNORED
from msdtool.measure.surfaces import mean_surface_metrics, surface, surface_metrics


def surface_formula(region):
    return region & ~binary_erosion(region)  # outside the image is outside


def formula(found, true):
    """HD95 and ASSD from the distances between all pixels of the two surfaces."""
    between = cdist(np.argwhere(surface_formula(found)), np.argwhere(surface_formula(true)))
    ways = between.min(1), between.min(0)
    hd95 = max(np.percentile(way, 95) for way in ways)
    return hd95, (ways[0].sum() + ways[1].sum()) / (ways[0].size + ways[1].size)


def labelled(space, seed):
    """Two maps of 3 labels of some extent."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=space), 1.5)
    other = field + 0.5 * gaussian_filter(rng.normal(size=space), 1.5)
    return (np.digitize(f, [-0.15, 0.1]) for f in (field, other))


@settings(deadline=None, max_examples=40)
@given(
    space=st.sampled_from([(12, 17), (1, 9), (30, 4), (7, 8, 9)]),
    seed=st.integers(0, 99),
    ignored=st.sampled_from([0.0, 0.1]),
)
def test_surface_distances_are_their_formulas(space, seed, ignored):
    output, target = labelled(space, seed)
    target[np.random.default_rng(seed).random(space) < ignored] = IGNORED
    values = surface_metrics(torch.tensor(output), torch.tensor(target), [0, 127, 255])
    for index, label in enumerate(("0", "127", "255")):
        found, true = (output == index) & (target != IGNORED), target == index
        if found.any() and true.any():
            expected = formula(found, true)
        else:
            expected = (math.inf if found.any() or true.any() else math.nan,) * 2
        measured = values["hd95"][label], values["assd"][label]
        assert measured == pytest.approx(expected, rel=1e-12, nan_ok=True)


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_a_surface_is_what_erosion_removes(seed):
    region = np.random.default_rng(seed).random((6, 7, 5)) < 0.8
    np.testing.assert_array_equal(surface(torch.tensor(region)), surface_formula(region))


def test_a_shift_of_a_square_is_measured_in_pixels():
    target = np.zeros((40, 40), int)
    target[10:20, 10:20] = 1
    output = np.roll(target, 3, 1)
    values = surface_metrics(torch.tensor(output), torch.tensor(target), [0, 1])
    assert values["hd95"]["1"] == 3
    assert 1 < values["assd"]["1"] < 3


def test_means_are_over_the_images_that_show_a_label_in_both():
    images = [
        {"hd95": {"0": 1.0, "1": math.inf, "2": math.nan}, "assd": {"0": 3.0, "1": 1.0, "2": 9.0}},
        {"hd95": {"0": 2.0, "1": 7.0, "2": math.nan}, "assd": {"0": 5.0, "1": 2.0, "2": 9.0}},
    ]
    found = mean_surface_metrics(images)
    assert found["hd95"]["0"] == 1.5 and found["hd95"]["1"] == 7 and math.isnan(found["hd95"]["2"])
    assert found["assd"]["0"] == 4
    assert found["surface_images"] == {"0": 2, "1": 1, "2": 0}

"""Distances against scipy's exact Euclidean distance transform."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from msdtool.measure.distances import NOWHERE, squared_distances


def scipy_squared(pixels):
    return np.rint(distance_transform_edt(~pixels) ** 2) if pixels.any() else NOWHERE


@settings(deadline=None, max_examples=60)
@given(
    space=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    density=st.sampled_from([0.0, 0.01, 0.1, 0.6]),
    seed=st.integers(0, 99),
)
def test_distances_are_exact(space, density, seed):
    sets = np.random.default_rng(seed).random((3, *space)) < density
    found = squared_distances(torch.tensor(sets))
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found, [scipy_squared(p) + 0 * p for p in sets])


@pytest.mark.parametrize("corner", [(0, 0), (69, 0), (0, 299)])
def test_the_other_end_of_an_image_is_reached(corner):
    pixels = np.zeros((70, 300), bool)
    pixels[corner] = True
    found = squared_distances(torch.tensor(pixels)[None])[0]
    np.testing.assert_array_equal(found, scipy_squared(pixels))

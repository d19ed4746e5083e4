"""Levels of an image, and what they make of its values, against numpy's in float64."""

import numpy as np
import pytest
import torch

from msdtool.data import Sample
from msdtool.data.levels import (
    in_data_units,
    in_own_scale,
    measure_levels,
    scaled,
    unscaled,
)
from msdtool.errors import InputError
from msdtool.scaling import Scaling

RNG = np.random.default_rng(0)
MEAN_STD = Scaling(per="image")
PERCENTILE = Scaling("percentile", "image", (2.0, 97.5))


def levels_of(image, how, pieces=1):
    blocks = torch.from_numpy(image).tensor_split(pieces, 1)
    return measure_levels(how, lambda: blocks, len(image), "a.tif").numpy()


@pytest.mark.parametrize("pieces", [1, 4])
def test_they_are_those_of_all_pixels(pieces):
    image = (1000 + 3 * RNG.standard_normal((2, 30, 40))).astype(np.float32)
    exact = image.astype(np.float64).reshape(2, -1)
    expected = [exact.mean(1), exact.std(1)]
    np.testing.assert_allclose(levels_of(image, MEAN_STD, pieces), expected, rtol=1e-10)
    low, high = np.percentile(exact, [2, 97.5], axis=1)
    np.testing.assert_allclose(levels_of(image, PERCENTILE, pieces), [low, high - low], rtol=1e-10)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("slices", [1, 5])
def test_every_slice_is_scaled_by_them_and_back(batch, slices):
    image = RNG.standard_normal((*batch, 2 * slices, 6, 7))
    levels = RNG.random((*batch, 2, 2)) + 0.5
    found = scaled(torch.from_numpy(image), torch.from_numpy(levels))
    apart = image.reshape(*batch, slices, 2, 6, 7)
    shift, scale = (levels[..., kind, :].reshape(*batch, 1, 2, 1, 1) for kind in (0, 1))
    expected = ((apart - shift) / scale).reshape(image.shape)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)
    back = unscaled(found, torch.from_numpy(levels))
    np.testing.assert_allclose(back.numpy(), image, rtol=1e-13, atol=1e-13)


def test_a_sample_is_scaled_where_it_has_figures():
    image, levels = torch.rand(1, 4, 4), torch.tensor([[2.0], [3.0]])
    plain = Sample(image, image + 1, None, torch.tensor(0))
    assert in_own_scale(plain) is plain
    assert in_data_units(image, plain) is image
    alone = in_own_scale(plain._replace(levels=levels))
    assert torch.equal(alone.input, (image - 2) / 3)
    assert torch.equal(alone.target, image + 1)
    shared = plain._replace(levels=levels, target_levels=levels)
    assert torch.equal(in_own_scale(shared).target, (image + 1 - 2) / 3)
    assert torch.equal(in_data_units(image, shared), image * 3 + 2)


@pytest.mark.parametrize(
    "how, image, message",
    [
        (
            MEAN_STD,
            np.full((1, 5, 5), 7.0),
            "a.tif: every pixel has the value 7, so that it has no",
        ),
        (MEAN_STD, np.full((1, 5, 5), 0.1), "every pixel has the value 0.1"),
        (
            MEAN_STD,
            np.stack([RNG.random((5, 5)), np.ones((5, 5))]),
            r"a.tif: channel 1 \(from 0\): every pixel has the value 1",
        ),
        (
            PERCENTILE,
            (np.arange(400) > 395).reshape(1, 20, 20),
            "the percentiles 2 and 97.5 of its values are both 0",
        ),
    ],
)
def test_an_image_without_contrast_is_refused(how, image, message):
    with pytest.raises(InputError, match=message):
        levels_of(image.astype(np.float32), how)

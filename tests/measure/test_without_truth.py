"""Scores without a clean image, against their formulas."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from msdtool.measure.without_truth import NoisyScores, agreement, edge_contrast
from tests.measure.test_rings import correlation_formula

SHAPES = [(20, 16), (9, 8, 12)]


def images(shape, channels=1):
    """An object [C, *shape], and two images of it with noise of their own."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(channels, *shape)).cumsum(1).cumsum(-1)
    return truth, *(truth + rng.normal(size=truth.shape) for _ in range(2))


@pytest.mark.parametrize("shape", SHAPES)
def test_agreement_is_the_mean_of_the_rings_that_all_channels_add_to(shape):
    _, one, two = images(shape, channels=2)
    values, _ = correlation_formula(list(zip(one, two, strict=True)), [1] * len(shape), False)
    found = agreement(*(torch.from_numpy(image) for image in (one, two)))
    assert found == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_less_noise_agrees_more_whatever_the_unit():
    truth, *noisy = map(torch.from_numpy, images((64, 64)))
    noise = [image - truth for image in noisy]
    scores = [agreement(*(truth + part * one for one in noise)) for part in (0.1, 0.5, 1, 2)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 0.1
    assert agreement(5 - 3 * noisy[0], noisy[1]) == pytest.approx(-scores[2])


@pytest.mark.parametrize("shape", SHAPES)
def test_edge_contrast_compares_the_largest_tenth_of_the_laplacian_with_the_rest(shape):
    image = images(shape)[1]
    inside = (slice(1, -1),) * len(shape)
    found = sorted(np.abs(ndimage.laplace(image[0])[inside]).ravel())
    first = len(found) - math.ceil(len(found) / 10)
    expected = np.mean(found[first:]) / np.mean(found[:first])
    assert edge_contrast(torch.from_numpy(image)) == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_scored_is_not_a_number_and_a_constant_is_worst():
    noise = torch.rand(1, 7, 9)
    assert math.isnan(agreement(noise, torch.rand(1, 7, 9)))
    assert math.isnan(edge_contrast(noise[:, :2]))
    flat, step = torch.ones(1, 12, 40), torch.ones(1, 12, 40)
    step[..., 20:] = 2
    assert (agreement(flat, torch.rand(1, 12, 40)), edge_contrast(flat)) == (0, 0)
    assert edge_contrast(step) == pytest.approx(1e6)  # nothing changes anywhere else


def test_scores_are_means_over_the_images_that_have_them():
    several = [NoisyScores(range(2)) for _ in range(2)]
    expected = {"frc": [], "edges": []}
    for number, size in enumerate((16, 20, 5, 2)):
        one, other = (torch.rand(1, size, size) for _ in range(2))
        several[number % 2].update(one, other if number != 1 else None)
        expected["edges"].append(edge_contrast(one))
        expected["frc"].append(agreement(one, other) if number != 1 else math.nan)
    total, other = several
    total.add(other)
    assert total.compute() == pytest.approx({k: np.nanmean(v) for k, v in expected.items()})


def test_scores_of_no_image_are_not_numbers_and_without_halves_there_are_only_edges():
    found = NoisyScores([3]).compute()
    assert list(found) == ["frc", "edges"]
    assert all(map(math.isnan, found.values()))
    assert list(NoisyScores().compute()) == ["edges"]

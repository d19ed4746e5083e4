"""Changes of intensity against scipy, formulas and the statistics of their noise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.data.augment import Intensity, gaussian_blur

UNIT = [2.0, 0.5]


def image(space=(6, 7), seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(10, 3, (2, *space)).astype(np.float32)
    )


def change(input, seed=0, unit=UNIT, **ranges):
    return Intensity(unit, **ranges)(input, np.random.default_rng(seed))


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=3), st.floats(0, 3), st.integers(0, 2**32 - 1)
)
@settings(deadline=None, max_examples=60)
def test_blur_is_scipys_gaussian_filter(space, sigma, seed):
    ndimage = pytest.importorskip("scipy.ndimage")
    before = image(space, seed)
    expected = [ndimage.gaussian_filter(c.numpy(), sigma, mode="nearest") for c in before]
    np.testing.assert_allclose(gaussian_blur(before, sigma), np.stack(expected), atol=2e-5)


def test_gain_offset_and_gamma_are_their_formulas():
    before = image()
    unit = torch.tensor(UNIT).reshape(2, 1, 1)
    torch.testing.assert_close(change(before, gain=(3, 3)), 3 * before)
    torch.testing.assert_close(change(before, offset=(-0.5, -0.5)), before - 0.5 * unit)
    low, high = before.min(), before.max()
    expected = low + (high - low) * ((before - low) / (high - low)) ** 2
    torch.testing.assert_close(change(before, gamma=(2, 2)), expected)
    constant = torch.full((2, 3, 3), 5.0)
    assert torch.equal(change(constant, gamma=(2, 2)), constant)


def test_gaussian_noise_has_the_standard_deviation_asked_for():
    before = torch.zeros(2, 200, 200)
    noise = change(before, gaussian_noise=(0.5, 0.5))
    for channel, unit in zip(noise, UNIT, strict=True):
        # Of 40,000 values, the estimates' own standard errors are 0.35 % and 0.5 %: 5 of them.
        assert float(channel.std()) == pytest.approx(0.5 * unit, rel=0.018)
        assert abs(float(channel.mean())) < 0.025 * 0.5 * unit


def test_poisson_noise_has_the_variance_of_counts():
    quantum = 0.25
    before = torch.tensor([4.0, 100.0]).reshape(2, 1, 1).expand(2, 200, 200)
    after = change(before, poisson_noise=(quantum, quantum))
    for channel, value in zip(after, (4.0, 100.0), strict=True):
        assert float(channel.mean()) == pytest.approx(value, rel=0.01)
        # The variance of q Poisson(v / q) is q v; 5 standard errors of its estimate are 4 %.
        assert float(channel.var()) == pytest.approx(quantum * value, rel=0.04)
        counts = channel / quantum
        assert torch.equal(counts, counts.round())


def test_poisson_noise_leaves_what_cannot_be_counted():
    before = torch.tensor([-3.0, 0.0, 1e30]).reshape(1, 1, 3)
    assert torch.equal(change(before, unit=[1.0], poisson_noise=(0.5, 0.5)), before)
    assert torch.equal(change(image(), poisson_noise=(0, 0)), image())


def test_strengths_are_drawn_evenly_from_their_range():
    one = torch.ones(1, 1, 1)
    gains = [float(change(one, seed, [1.0], gain=(1, 3))) for seed in range(1000)]
    assert 1 <= min(gains) < 1.01 and 2.99 < max(gains) < 3
    # The mean's standard error is 2 / sqrt(12 * 1000) = 0.018.
    assert np.mean(gains) == pytest.approx(2, abs=0.09)


def test_changes_come_in_the_order_of_a_measurement():
    """Gain and offset after gamma, noise last: nothing acts on the noise."""
    before = image()
    steps = {"blur": (1, 1), "gamma": (2, 2), "gain": (3, 3), "offset": (1, 1)}
    expected = before
    for name, bounds in steps.items():
        expected = change(expected, **{name: bounds})
    torch.testing.assert_close(change(before, **steps), expected)


def test_a_change_is_a_function_of_the_generator_and_keeps_its_input():
    before, ranges = image(), {"gain": (0.5, 2), "gaussian_noise": (0, 1), "blur": (0, 2)}
    copy = before.clone()
    first = change(before, 1, **ranges)
    assert torch.equal(first, change(before, 1, **ranges))
    assert not torch.equal(first, change(before, 2, **ranges))
    assert torch.equal(before, copy)
    assert first.dtype == torch.float32 and first.shape == before.shape

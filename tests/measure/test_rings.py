"""Ring correlations against their formula, written out over all Fourier coefficients."""

import math

import numpy as np
import pytest

from msdtool.measure.rings import RingCorrelation, crossing, half_bit_threshold


def taper(way):
    """Tukey's window: 1 up to 3/4 of the way to the border, 0 at the border."""
    return 1.0 if way < 0.75 else 0.5 * (1 + math.cos(math.pi * (min(way, 1) - 0.75) / 0.25))


def window_formula(shape, disc):
    window = np.empty(shape)
    for place in np.ndindex(shape):
        ways = [abs(2 * (i + 0.5) / n - 1) for i, n in zip(place, shape, strict=True)]
        window[place] = taper(math.hypot(*ways)) if disc else math.prod(map(taper, ways))
    return window


def correlation_formula(pairs, spacing, disc):
    """By ring: the correlation, and how many coefficients there are; over whole transforms."""
    shape = pairs[0][0].shape
    window = window_formula(shape, disc)
    step = max(1 / (n * d) for n, d in zip(shape, spacing, strict=True))
    sums = {}
    for pair in pairs:
        one, two = (
            np.fft.fftn((image - np.average(image, weights=window)) * window) for image in pair
        )
        for place in np.ndindex(shape):
            # The frequencies of numpy's transform: 0, 1, ... -2, -1 periods in the image.
            periods = [i if i < (n + 1) // 2 else i - n for i, n in zip(place, shape, strict=True)]
            frequency = math.hypot(
                *(k / (n * d) for k, n, d in zip(periods, shape, spacing, strict=True))
            )
            ring = sums.setdefault(round(frequency / step), [0, 0, 0, 0])
            ring[0] += (one[place] * two[place].conjugate()).real
            ring[1] += abs(one[place]) ** 2
            ring[2] += abs(two[place]) ** 2
            ring[3] += 1
    last = int(0.5 / max(spacing) / step)
    rings = [sums[number] for number in range(1, last + 1)]
    return [a / math.sqrt(b * c) for a, b, c, _ in rings], [count for *_, count in rings]


@pytest.mark.parametrize("disc", [False, True])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((24, 24), (1, 1)), ((15, 22), (1, 1)), ((16, 20), (2.3, 1.5)), ((9, 8, 12), (1, 1, 1))],
)
def test_correlations_equal_the_formula(shape, spacing, disc):
    rng = np.random.default_rng(1)
    truth = [5000 + rng.normal(size=shape).cumsum(0).cumsum(-1) for _ in range(2)]
    pairs = [(t + rng.normal(size=shape), t + rng.normal(size=shape)) for t in truth]
    rings = RingCorrelation(shape, spacing, disc=disc)
    for pair in pairs:
        rings.add(*pair)
    values, counts = correlation_formula(pairs, spacing, disc)
    np.testing.assert_allclose(rings.values, values, rtol=0, atol=1e-9)
    assert rings.counts.tolist() == counts
    assert rings.frequencies[0] == max(1 / (n * d) for n, d in zip(shape, spacing, strict=True))
    assert rings.frequencies[-1] <= 0.5 / max(spacing)


def test_independent_noise_has_no_correlation_but_its_spread():
    rng = np.random.default_rng(0)
    rings = RingCorrelation((64, 64))
    for _ in range(8):
        rings.add(rng.normal(size=(64, 64)), rng.normal(size=(64, 64)))
    # The window lets neighbouring coefficients share noise: fewer count than there are.
    assert np.abs(rings.values * np.sqrt(rings.counts)).max() < 5
    assert (rings.values < rings.half_bit).all()


def test_the_correlation_is_that_of_the_signal_to_noise_ratio():
    """Of white signal and noise it is s / (s + 1) everywhere."""
    rng = np.random.default_rng(0)
    rings = RingCorrelation((256, 256))
    signal = 3**0.5 * rng.normal(size=(256, 256))
    rings.add(signal + rng.normal(size=signal.shape), signal + rng.normal(size=signal.shape))
    assert np.average(rings.values, weights=rings.counts) == pytest.approx(0.75, abs=0.01)


def test_the_half_bit_threshold_has_the_constants_of_the_paper():
    counts = np.array([1.0, 8.0, 100.0, 1e6])
    root = np.sqrt(counts)
    expected = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    np.testing.assert_allclose(half_bit_threshold(counts), expected, atol=5e-5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 0.75, 0.25, 0], 0.25), ([0.4, 0.9, 0, 0], 0.0), ([1, 1, 1, 0.5], None)],
)
def test_a_crossing_lies_between_rings(values, expected):
    frequencies = np.array([0.1, 0.2, 0.3, 0.4])
    assert crossing(frequencies, np.array(values), np.full(4, 0.5)) == (
        None if expected is None else pytest.approx(expected)
    )


def test_images_without_noise_of_their_own_and_constant_ones_are_refused():
    rings = RingCorrelation((8, 8))
    image = np.random.default_rng(0).random((8, 8))
    with pytest.raises(ValueError, match="same image as its partner"):
        rings.add(image, image.copy())
    with pytest.raises(ValueError, match="is constant"):
        rings.add(image, np.full((8, 8), 1e6))
    with pytest.raises(ValueError, match="8 x 7 pixels; rings need 8 along each axis"):
        RingCorrelation((8, 7))

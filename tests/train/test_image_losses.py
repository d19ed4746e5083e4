"""Losses of a regression beyond single pixels, against numpy and scipy formulas in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.data import IGNORED
from msdtool.train.image_losses import (
    EdgeLoss,
    FourierLoss,
    HardestSquaresLoss,
    MultiScaleSSIMLoss,
    TotalVariationLoss,
)
from msdtool.train.losses import RegressionLoss
from tests.measure.test_ssim import multiscale_formula, pair
from tests.train.test_losses import probabilities, segmentation

SPACES = st.sampled_from([(7, 6), (1, 5), (4, 1), (4, 3, 5)])
EXAMPLES = settings(deadline=None, max_examples=20)
EVERY = {
    "MS-SSIM": lambda scale: MultiScaleSSIMLoss(3.0, 2),
    "edge": EdgeLoss,
    "FFT": FourierLoss,
    "TV": TotalVariationLoss,
    "top_k": HardestSquaresLoss,
}


def differences(image, counts):
    """Differences to the next pixel along each axis, 0 where one does not count; pixel by pixel."""
    found = np.zeros((image.ndim, *image.shape))
    for place in np.ndindex(image.shape):
        for axis in range(image.ndim):
            following = tuple(x + (a == axis) for a, x in enumerate(place))
            if following[axis] < image.shape[axis] and counts[place] and counts[following]:
                found[(axis, *place)] = image[following] - image[place]
    return found


def channels(images, scale, counts):
    """Each channel of each image in units of its scale, and where it counts."""
    for image, counted in zip(images, counts, strict=True):
        for channel, unit in zip(image, scale, strict=True):
            yield channel / unit, counted[0]


def mean(values, counts, num_channels):
    return sum(values) / (np.sum(counts) * num_channels)


def edge_formula(x, y, scale, counts):
    squares = [np.sum(differences(d, c) ** 2) for d, c in channels(x - y, scale, counts)]
    return mean(squares, counts, x.shape[1])


def variation_formula(x, _, scale, counts):
    lengths = [np.sqrt(np.sum(differences(d, c) ** 2, 0)) for d, c in channels(x, scale, counts)]
    return mean([np.sum(length) for length in lengths], counts, x.shape[1])


def fourier_formula(x, y, scale, counts):
    """The transform as a sum over pixels, one axis after the other."""
    total = []
    for difference, counted in channels(x - y, scale, counts):
        spectrum = np.where(counted, difference, 0).astype(complex)
        for axis, n in enumerate(difference.shape):
            waves = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n)
            spectrum = np.moveaxis(np.tensordot(waves, spectrum, (1, axis)), 0, axis)
        total.append(np.sum(np.abs(spectrum)))
    return mean(total, counts, x.shape[1])


def hardest_formula(x, y, scale, counts, fraction=0.1):
    chosen = []
    for image, other, counted in zip(x, y, counts, strict=True):
        squares = [(a - b)[counted[0]] ** 2 / s**2 for a, b, s in zip(image, other, scale,
                                                                      strict=True)]  # fmt: skip
        values = np.sort(np.concatenate(squares))[::-1]
        chosen += list(values[: int(np.ceil(fraction * values.size))])
    return np.mean(chosen)


FORMULAS = {
    "edge": edge_formula,
    "FFT": fourier_formula,
    "TV": variation_formula,
    "top_k": hardest_formula,
}


@pytest.mark.parametrize("name", FORMULAS)
@EXAMPLES
@given(space=SPACES, num_channels=st.integers(1, 2), masked=st.booleans(), seed=st.integers(0, 99))
def test_losses_are_their_formulas(name, space, num_channels, masked, seed):
    shape = (2, num_channels, *space)
    output, target = pair(shape, seed)
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.5, 4, num_channels)
    counts = rng.random((2, 1, *space)) < (0.6 if masked else 1)
    counts.flat[0] = True
    loss = EVERY[name](scale.tolist())
    mask = torch.tensor(counts) if masked else None
    found = loss(torch.tensor(output), torch.tensor(target), mask)
    expected = FORMULAS[name](output, target, scale, counts)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_spectrum_of_white_noise_has_its_standard_deviation():
    noise = torch.randn(1, 1, 64, 64, dtype=torch.float64, generator=torch.Generator())
    found = FourierLoss()(noise, torch.zeros_like(noise)).item()
    assert found == pytest.approx(np.sqrt(np.pi) / 2, rel=0.05)  # the mean of Rayleigh's law


def test_all_pixels_are_the_hardest_at_fraction_1():
    x, y = map(torch.tensor, pair((2, 2, 5, 4)))
    torch.testing.assert_close(HardestSquaresLoss(None, 1.0)(x, y), RegressionLoss("L2")(x, y))


@pytest.mark.parametrize("space", [(44, 50), (45, 47), (22, 23, 24)])
@pytest.mark.parametrize("masked", [False, True])
def test_multiscale_ssim_is_its_formula(space, masked):
    scales = 3 if len(space) == 2 else 2
    x, y = pair((2, 2, *space))
    y = 0.3 * y + 0.7 * x  # a similarity above 0 at each scale
    mask = np.zeros((2, 1, *space), bool)
    mask[..., 3 : space[-2] // 2, 9 : 9 + space[-1] // 2] = True
    mask[1] |= np.random.default_rng(0).random(space) < 0.01
    counts = mask if masked else np.ones_like(mask)
    right = np.where(counts, x, y)
    similarity = [
        multiscale_formula(a, b, c[0], 3.0, scales)
        for a, b, c in zip(right, y, counts, strict=True)
    ]
    loss = MultiScaleSSIMLoss(3.0, scales)
    found = loss(torch.tensor(x), torch.tensor(y), torch.tensor(mask) if masked else None)
    assert found.item() == pytest.approx(1 - np.mean(similarity), rel=1e-6)


def test_multiscale_ssim_of_images_too_small_names_the_key():
    x = torch.rand(1, 1, 200, 175)
    with pytest.raises(ValueError, match=r"at least 176 pixels, got 175; lower training\.ms_ssim"):
        MultiScaleSSIMLoss(1.0)(x, x)


def test_the_value_range_is_the_wider_one_if_none_is_given():
    x, y = (torch.tensor(image) for image in pair((1, 1, 24, 24)))
    y = 3 * y
    data_range = float(y.max() - y.min())
    found, expected = (MultiScaleSSIMLoss(r, 2)(x, y) for r in (None, data_range))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", EVERY)
def test_a_large_offset_does_not_change_a_loss_of_float32(name):
    rng = np.random.default_rng(0)
    target = 30_000 + rng.integers(0, 8, (1, 1, 24, 26)) / 8  # exact in float32
    output = target + rng.integers(-4, 5, target.shape) / 8
    found = []
    for offset in (30_000, 0):
        x = torch.tensor(output - offset, dtype=torch.float32, requires_grad=True)
        loss = EVERY[name](None)(x, torch.tensor(target - offset, dtype=torch.float32))
        (gradient,) = torch.autograd.grad(loss, x)
        found.append((loss, gradient))
    if name == "MS-SSIM":  # whose luminance depends on the offset
        exact = MultiScaleSSIMLoss(3.0, 2)(torch.tensor(output), torch.tensor(target))
        assert found[1][0].item() == pytest.approx(exact.item(), rel=1e-6)
    else:
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_finite_and_those_of_the_values(name):
    loss = EVERY[name](None)
    x, y = (torch.tensor(image) for image in pair((1, 1, 22, 22)))
    mask = torch.rand(1, 1, 22, 22, generator=torch.Generator()) < 0.8
    x.requires_grad_()
    check = torch.autograd.gradcheck(
        lambda x: loss(x, y, mask), x, fast_mode=True, atol=1e-5, rtol=1e-3
    )
    assert check
    (gradient,) = torch.autograd.grad(loss(x, y, mask), x)
    assert not gradient[~mask].any() and gradient[mask].any()
    flat = torch.ones(1, 1, 22, 22, requires_grad=True)
    for target in (flat.detach(), y.float(), -y.float()):
        (gradient,) = torch.autograd.grad(loss(flat, target), flat)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_mask_yields_zero_and_no_gradient(name):
    x = torch.rand(1, 1, 22, 22, requires_grad=True)
    loss = EVERY[name](None)(x, torch.rand(1, 1, 22, 22), torch.zeros(1, 1, 22, 22).bool())
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("name", EVERY)
def test_images_of_two_shapes_are_refused(name):
    with pytest.raises(ValueError, match="the target has 1 channels, the network outputs 2"):
        EVERY[name](None)(torch.rand(1, 2, 22, 22), torch.rand(1, 1, 22, 22))


@EXAMPLES
@given(space=SPACES, seed=st.integers(0, 99))
def test_the_variation_of_a_segmentation_is_that_of_its_probabilities(space, seed):
    scores, indices = segmentation((2, *space), 3, seed)
    counts = indices != IGNORED
    expected = variation_formula(probabilities(scores), None, [1.0] * 3, counts)
    loss = TotalVariationLoss(labels=True)
    found = loss(torch.tensor(scores), torch.tensor(indices))
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)

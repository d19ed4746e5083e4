"""Structural similarity against a float64 formula, and against scikit-image."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from msdtool.measure import ssim
from msdtool.measure.ssim import inside, mean_ssim, ssim_image


def pair(shape, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(5, spread, shape), rng.normal(5, spread, shape)


def ssim_factors(x, y, data_range):
    """Wang et al. 2004: 11 taps of a Gaussian of sigma 1.5, K1 = 0.01, K2 = 0.03; x, y [*space].

    Luminance, and contrast times structure, at the pixels whose window lies inside.
    """
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(image):
        for axis in range(image.ndim):
            image = correlate1d(image, taps, axis, mode="mirror")
        return image[(slice(5, -5),) * image.ndim]

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * cov + c2) / (var_x + var_y + c2)


def ssim_formula(x, y, data_range):
    luminance, structure = ssim_factors(x, y, data_range)
    return luminance * structure


def blocks(image):
    """The blocks of 2 x 2 (x 2) pixels of [*space], along a last axis; odd edges are left out."""
    ndim = image.ndim
    image = image[tuple(slice(0, n // 2 * 2) for n in image.shape)]
    image = image.reshape([k for n in image.shape for k in (n // 2, 2)])
    image = image.transpose(*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2))
    return image.reshape(*image.shape[:ndim], -1)


def multiscale_formula(x, y, counts, data_range, scales):
    """Wang et al. 2003, eq. 7, of an image [C, *space] at the pixels that count, [*space]."""
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    product = 1.0
    for scale, weight in enumerate(weights / weights.sum(), 1):
        inner = counts[(slice(5, -5),) * counts.ndim]
        means = []
        for a, b in zip(x, y, strict=True):
            luminance, structure = ssim_factors(a, b, data_range)
            means.append((structure if scale < scales else luminance * structure)[inner])
        product *= np.mean(means) ** weight if inner.any() else 1
        x, y = (np.stack([blocks(channel).mean(-1) for channel in image]) for image in (x, y))
        counts = blocks(counts).any(-1)
    return product


@pytest.mark.parametrize(
    "space", [(11, 11), (17, 12), (257, 15), (12, 514), (11, 12, 13), (11, 260, 12)]
)
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_is_the_formula_at_every_pixel(space, data_range):
    x, y = pair((2, 2, *space), spread=0.2 * data_range)
    found = ssim_image(torch.tensor(x), torch.tensor(y), data_range).numpy()
    expected = [
        [ssim_formula(a, b, data_range) for a, b in zip(*p, strict=True)]
        for p in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def scikit_image(x, y, data_range):
    """The mean of scikit-image's, x and y [C, *space]."""
    return structural_similarity(
        x.astype(float), y.astype(float), data_range=data_range, channel_axis=0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 11, 12), (1, 24, 31), (3, 40, 35), (1, 12, 13, 15)])
def test_mean_ssim_is_that_of_scikit_image(shape):
    x, y = pair(shape)
    found = mean_ssim(torch.tensor(x)[None], torch.tensor(y)[None], 4.0)
    assert found.item() == pytest.approx(scikit_image(x, y, 4.0), rel=1e-9)


@pytest.mark.parametrize("offset", [0, 1, 30_000, -30_000, 1e7])
@pytest.mark.parametrize("data_range", [1e-3, 20.0, 1e6])
def test_ssim_is_exact_for_any_offset_and_range(offset, data_range):
    """Counts in float32, whose squares have no digits left for the variance."""
    rng = np.random.default_rng(0)
    clean = offset + data_range * rng.random((30, 27))
    noisy = (clean + 0.1 * data_range * rng.normal(size=clean.shape)).astype(np.float32)
    clean = clean.astype(np.float32)
    x, y = (torch.tensor(image)[None, None] for image in (noisy, clean))
    expected = ssim_by_windows(noisy.astype(float), clean.astype(float), data_range)
    assert mean_ssim(x, y, data_range).item() == pytest.approx(expected, rel=1e-7)
    assert mean_ssim(y, y, data_range).item() == 1


def ssim_by_windows(x, y, data_range):
    """The mean over all windows; each is centred before anything is squared."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(taps, taps) / taps.sum() ** 2
    a, b = (np.lib.stride_tricks.sliding_window_view(image, (11, 11)) for image in (x, y))
    mean_a, mean_b = ((view * weights).sum((2, 3), keepdims=True) for view in (a, b))
    a, b = a - mean_a, b - mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = 1 - (mean_a - mean_b) ** 2 / (mean_a**2 + mean_b**2 + c1)
    variances = ((a * a + b * b) * weights).sum((2, 3))
    contrast = (2 * (a * b * weights).sum((2, 3)) + c2) / (variances + c2)
    return np.mean(luminance[..., 0, 0] * contrast)


def test_ssim_of_known_images():
    """Figures computed once by scikit-image 0.26 in float64."""
    y, x = np.mgrid[:32, :48].astype(float)
    wave = 100 + 50 * np.sin(x / 3) * np.cos(y / 4)
    known = [
        (wave + 20, 0.981668088085241),
        (0.5 * wave, 0.6740777236651301),
        (wave[::-1].copy(), 0.17923442999639802),
        (wave + 10 * np.sin(7 * x) * np.cos(5 * y), 0.9416691026051841),
    ]
    for other, expected in known:
        found = mean_ssim(*(torch.tensor(i)[None, None] for i in (other, wave)), 255.0)
        assert found.item() == pytest.approx(expected, abs=1e-9)


def test_wild_values_that_do_not_count_change_nothing_but_their_windows():
    x, y = map(torch.tensor, pair((1, 1, 40, 50)))
    mask = torch.ones(1, 1, 40, 50, dtype=torch.bool)
    mask[..., :12, :12] = False
    before = ssim_image(x, y, 4.0)
    x[..., 0, 0] = y[..., 3, 0] = 1e30
    after = ssim_image(x, y, 4.0)
    torch.testing.assert_close(after[inside(mask)], before[inside(mask)], rtol=1e-9, atol=1e-9)


def test_pixels_near_the_border_do_not_count():
    x, y = map(torch.tensor, pair((1, 1, 20, 22)))
    mask = torch.zeros(1, 1, 20, 22, dtype=torch.bool)
    mask[..., 3:9, :7] = True
    image = ssim_image(x, y, 4.0)
    assert image.shape == (1, 1, 10, 12)
    found = mean_ssim(x, y, 4.0, mask)
    assert found.item() == pytest.approx(image[0, 0, :4, :2].mean().item(), rel=1e-12)
    mask[..., 5:15, 5:17] = False
    assert mean_ssim(x, y, 4.0, mask).item() == 1


def test_a_large_image_is_computed_in_pieces(monkeypatch):
    x, y = map(torch.tensor, pair((1, 1, 90, 30)))
    whole = ssim_image(x, y, 4.0)
    monkeypatch.setattr(ssim, "PIECE", 30 * 25)
    torch.testing.assert_close(ssim_image(x, y, 4.0), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ssim_of_any_precision_is_that_of_its_values(dtype):
    x, y = (torch.tensor(image).to(dtype) for image in pair((1, 1, 15, 16)))
    assert torch.equal(ssim_image(x, y, 4.0), ssim_image(x.double(), y.double(), 4.0))


def test_constant_images_have_a_similarity():
    x = torch.full((1, 1, 12, 12), 5.0)
    assert mean_ssim(x, x, None).item() == 1
    assert math.isfinite(mean_ssim(x, x + 0, 1.0).item())


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="is not defined"):
        ssim_image(torch.rand(1, 1, 12, 12), torch.rand(1, 1, 12, 13), 1.0)


def test_ssim_refuses_images_smaller_than_its_window():
    x = torch.rand(1, 1, 10, 40)
    with pytest.raises(ValueError, match="SSIM needs images of at least 11 pixels, got 10"):
        ssim_image(x, x, 1.0)


def test_without_a_range_that_of_the_wider_image_counts():
    x, y = map(torch.tensor, pair((1, 1, 12, 12)))
    widest = float(max(x.max() - x.min(), y.max() - y.min()))
    assert torch.equal(ssim_image(x, y, None), ssim_image(x, y, widest))


def test_ssim_has_the_gradients_of_its_formula():
    x, y = (torch.tensor(image).requires_grad_() for image in pair((1, 1, 11, 12)))
    assert torch.autograd.gradcheck(lambda a, b: ssim_image(a, b, 4.0), (x, y))

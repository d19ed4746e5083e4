"""Structural similarity against a float64 formula, and against scikit-image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from msdtool.train.similarity import ssim_image


def pair(shape, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(5, spread, shape), rng.normal(5, spread, shape)


def ssim_formula(x, y, data_range):
    """Wang et al. 2004: 11 taps of a Gaussian of sigma 1.5, K1 = 0.01, K2 = 0.03; x, y [*space]."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(image):
        for axis in range(image.ndim):
            image = correlate1d(image, taps, axis, mode="mirror")
        return image

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


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


def test_ssim_away_from_the_border_is_that_of_scikit_image():
    x, y = (image[0, 0] for image in pair((1, 1, 24, 31)))
    _, expected = structural_similarity(
        x, y, data_range=4.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    found = ssim_image(torch.tensor(x)[None, None], torch.tensor(y)[None, None], 4.0)[0, 0]
    np.testing.assert_allclose(found[5:-5, 5:-5], expected[5:-5, 5:-5], rtol=1e-7, atol=1e-9)


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

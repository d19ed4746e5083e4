import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from msdtool.train.baseline import Baseline, compared


def image(seed, *shape):
    return torch.rand((1, *shape), generator=torch.Generator().manual_seed(seed)).double()


def test_of_a_regression_the_input_is_measured():
    baseline = Baseline([], [], 1.0)
    pairs = [(image(seed, 1, 20, 24), image(seed + 9, 1, 20, 24)) for seed in range(2)]
    for input, target in pairs:
        baseline.update(input, target, None)
    arrays = [(target[0, 0].numpy(), input[0, 0].numpy()) for input, target in pairs]
    psnr = [peak_signal_noise_ratio(*pair, data_range=1.0) for pair in arrays]
    ssim = [
        structural_similarity(
            *pair, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for pair in arrays
    ]
    found = baseline.values()
    assert found.keys() == {"psnr", "ssim"}
    assert found["psnr"] == pytest.approx(sum(psnr) / 2)
    assert found["ssim"] == pytest.approx(sum(ssim) / 2, abs=1e-4)


def test_of_a_slab_the_central_slice_is_measured():
    input, target = image(1, 3, 12, 12), image(2, 1, 12, 12)
    slab, plain = Baseline([], [], 1.0, slab=1), Baseline([], [], 1.0)
    slab.update(input, target, None)
    plain.update(input[:, 1:2], target, None)
    assert slab.values() == plain.values()


def test_an_input_of_another_shape_cannot_be_compared():
    baseline = Baseline([], [], 1.0)
    baseline.update(image(1, 1, 12, 12), image(2, 1, 12, 12), None)
    baseline.update(image(1, 1, 6, 6), image(2, 1, 12, 12), None)
    assert baseline.values() == {}


def test_of_a_segmentation_the_commonest_label_of_training_is_measured():
    baseline = Baseline([0, 5, 9], [10, 40, 10], 0.0)
    target = torch.tensor([[1, 1, 1, 0], [1, 2, 0, 0]]).reshape(1, 1, 2, 4)
    mask = torch.ones(1, 1, 2, 4, dtype=torch.bool)
    mask[..., 0, 0] = False
    baseline.update(image(1, 1, 2, 4), target, mask)
    found = baseline.values()
    # Of 7 pixels that count, 3 have label 5; the labels 0 and 9 are never found.
    assert found["accuracy"] == pytest.approx(3 / 7)
    assert found["mean_iou"] == pytest.approx((3 / 7 + 0 + 0) / 3)


def test_gains_are_told_beside_what_doing_nothing_scores():
    found = compared({"mse": 1.0, "psnr": 30.0, "ssim": math.nan}, {"psnr": 26.5, "ssim": 0.5})
    assert found == {"baseline_psnr": 26.5, "baseline_ssim": 0.5, "gain_psnr": 3.5}

"""Losses of a segmentation against numpy and scipy formulas in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from msdtool.data import IGNORED
from msdtool.measure.masking import of_one
from msdtool.train.label_losses import (
    BoundaryLoss,
    FocalLoss,
    HardestEntropyLoss,
    TverskyLoss,
    hardest_mean,
    signed_distances,
)
from msdtool.train.losses import CrossEntropyLoss, DiceLoss
from tests.train.test_losses import probabilities, segmentation

SHAPES = st.sampled_from([(1, 6, 5), (2, 5, 4), (1, 3, 4, 5)])
EXAMPLES = settings(deadline=None, max_examples=20)
EVERY = [
    CrossEntropyLoss(),
    DiceLoss(),
    FocalLoss(),
    TverskyLoss(),
    BoundaryLoss(),
    HardestEntropyLoss(0.5),
]


def right_ones(scores, indices):
    """The probability of each pixel's own label, and the label, where it counts; one image each."""
    for p, truth in zip(probabilities(scores), indices[:, 0], strict=True):
        counts = truth != IGNORED
        labels = truth[counts]
        yield np.moveaxis(p, 0, -1)[counts][np.arange(labels.size), labels], labels


def focal_formula(scores, indices, gamma, weights):
    """Lin et al. 2017, eq. 5, over the sum of the weights."""
    pairs = list(right_ones(scores, indices))
    p = np.concatenate([p for p, _ in pairs])
    w = np.asarray(weights)[np.concatenate([labels for _, labels in pairs])]
    return np.sum(-w * (1 - p) ** gamma * np.log(p)) / np.sum(w)


def tversky_formula(scores, indices, alpha, beta):
    """Salehi et al. 2017, eq. 4, with half a pixel added above and below."""
    p, counts = probabilities(scores), indices[:, 0] != IGNORED
    found = []
    for k in range(scores.shape[1]):
        truth, guess = (indices[:, 0] == k)[counts] * 1.0, p[:, k][counts]
        hits = np.sum(guess * truth)
        wrong = alpha * np.sum(guess * (1 - truth)) + beta * np.sum((1 - guess) * truth)
        found.append((hits + 0.5) / (hits + wrong + 0.5))
    return 1 - np.mean(found)


def phi(truth, k):
    """Signed distance to the boundary of label k in an image, by scipy."""
    own, other = truth == k, (truth != k) & (truth != IGNORED)
    if not (own.any() and other.any()):
        return np.zeros(truth.shape)
    outside, inside = (distance_transform_edt(~pixels) - 0.5 for pixels in (own, other))
    return np.where(own, -inside, np.where(other, outside, 0))


def boundary_formula(scores, indices):
    """Kervadec et al. 2019, eq. 4 and 5: the integral over S minus that over G."""
    p, total = probabilities(scores), 0.0
    for image, truth in zip(p, indices[:, 0], strict=True):
        for k, s in enumerate(image):
            total += np.sum(phi(truth, k) * (s - (truth == k)))
    return total / (scores.shape[1] * np.sum(indices != IGNORED))


def hardest_formula(scores, indices, fraction):
    chosen = []
    for p, _ in right_ones(scores, indices):
        worst = np.sort(-np.log(p))[::-1]
        chosen += list(worst[: int(np.ceil(fraction * worst.size))])
    return np.mean(chosen)


@EXAMPLES
@given(
    shape=SHAPES,
    labels=st.integers(2, 4),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_focal_is_its_formula(shape, labels, gamma, weighted, seed):
    scores, indices = segmentation(shape, labels, seed)
    weights = [0.5 + k for k in range(labels)] if weighted else None
    found = FocalLoss(gamma, weights)(torch.tensor(scores), torch.tensor(indices))
    expected = focal_formula(scores, indices, gamma, weights or [1] * labels)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_focal_without_focus_is_cross_entropy_and_tversky_in_balance_is_dice():
    x, k = map(torch.tensor, segmentation((2, 6, 5), 3))
    weights = [1.0, 2.0, 0.5]
    torch.testing.assert_close(FocalLoss(0.0, weights)(x, k), CrossEntropyLoss(weights)(x, k))
    torch.testing.assert_close(TverskyLoss(0.5, 0.5)(x, k), DiceLoss()(x, k))
    torch.testing.assert_close(HardestEntropyLoss(1.0)(x, k), CrossEntropyLoss()(x, k))


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 2.0])
@pytest.mark.parametrize("size", [0.0, 30.0, 200.0, 1e4])
def test_the_gradient_of_focal_is_finite_however_sure_the_network_is(gamma, size):
    scores = torch.tensor([[[[size, size]], [[0.0, 0.0]]]], requires_grad=True)
    loss = FocalLoss(gamma)(scores, torch.tensor([[[[0, 1]]]]))  # right, and wrong
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()
    wrong = np.logaddexp(0, size)  # the other pixel's loss is below rounding, or the same
    expected = wrong * (1 - np.exp(-wrong)) ** gamma / (2 if size else 1)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


@EXAMPLES
@given(
    shape=SHAPES,
    labels=st.integers(2, 4),
    alpha=st.sampled_from([0.1, 0.5, 2.0]),
    beta=st.sampled_from([0.2, 1.0]),
    seed=st.integers(0, 99),
)
def test_tversky_is_its_formula(shape, labels, alpha, beta, seed):
    scores, indices = segmentation(shape, labels, seed)
    found = TverskyLoss(alpha, beta)(torch.tensor(scores), torch.tensor(indices))
    assert found.item() == pytest.approx(tversky_formula(scores, indices, alpha, beta), rel=1e-12)


@EXAMPLES
@given(
    shape=SHAPES,
    labels=st.integers(2, 4),
    absent=st.booleans(),
    ignored=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 99),
)
def test_boundary_is_its_formula(shape, labels, absent, ignored, seed):
    scores, indices = segmentation(shape, labels, seed, ignored)
    if absent:
        indices[indices == labels - 1] = 0
    x, k = torch.tensor(scores), torch.tensor(indices)
    for image, truth in zip(signed_distances(k[:, 0], labels), indices[:, 0], strict=True):
        expected = [phi(truth, label) for label in range(labels)]
        np.testing.assert_allclose(image, expected, rtol=1e-6, atol=1e-6)
    found = BoundaryLoss()(x, k).item()
    assert found == pytest.approx(boundary_formula(scores, indices), rel=1e-6, abs=1e-9)


def test_boundary_costs_more_the_farther_off_and_nothing_for_a_perfect_answer():
    truth = torch.zeros(1, 1, 8, 30, dtype=torch.int64)
    truth[..., 10:20] = 1

    def loss(first, last):
        guess = torch.zeros(1, 8, 30, dtype=torch.int64)
        guess[..., first:last] = 1
        scores = 200.0 * torch.nn.functional.one_hot(guess, 2).movedim(-1, 1)
        return BoundaryLoss()(scores, truth).item()

    assert loss(10, 20) == 0
    losses = [loss(10, last) for last in (20, 21, 22, 24, 28)]
    assert losses == sorted(losses) and losses[0] < losses[1]
    # One column half a pixel from the boundary is wrong for both labels, of 30 columns.
    assert losses[1] == pytest.approx(0.5 / 30)


@EXAMPLES
@given(shape=SHAPES, fraction=st.sampled_from([0.01, 0.1, 0.5, 1.0]), seed=st.integers(0, 99))
def test_top_k_is_the_mean_over_the_hardest_pixels(shape, fraction, seed):
    scores, indices = segmentation(shape, 3, seed)
    found = HardestEntropyLoss(fraction)(torch.tensor(scores), torch.tensor(indices))
    assert found.item() == pytest.approx(hardest_formula(scores, indices, fraction), rel=1e-12)


def test_the_hardest_are_chosen_image_by_image():
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0], [90.0, 70.0, 80.0, 60.0]])
    counts = torch.tensor([[True, True, True, False], [True, True, False, True]])
    assert hardest_mean(values, counts, 1 / 3, of_one).item() == (3 + 90) / 2
    assert hardest_mean(values, counts, 0.4, of_one).item() == (3 + 2 + 90 + 70) / 4


@pytest.mark.parametrize("loss", EVERY)
def test_pixels_that_are_unlabelled_or_masked_out_do_not_count(loss):
    scores, indices = segmentation((1, 6, 5), 3, ignored=0)
    x = torch.tensor(scores, requires_grad=True)
    mask = torch.zeros(1, 1, 6, 5, dtype=torch.bool)
    mask[..., :3, :] = True
    kept = torch.tensor(np.where(mask, indices, IGNORED))
    torch.testing.assert_close(loss(x, torch.tensor(indices), mask), loss(x, kept), rtol=0, atol=0)
    loss(x, kept).backward()
    assert x.grad[..., :3, :].any() and not x.grad[..., 3:, :].any()


@pytest.mark.parametrize("loss", EVERY)
def test_a_crop_without_a_labelled_pixel_teaches_nothing(loss):
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    value = loss(x, torch.full((2, 1, 4, 4), IGNORED))
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("loss", EVERY)
def test_gradients_are_those_of_the_values(loss):
    scores, indices = segmentation((2, 4, 3), 3)
    x = torch.tensor(scores, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor(indices)), x)


@pytest.mark.parametrize("loss", EVERY)
def test_scores_and_labels_of_two_sizes_are_refused(loss):
    with pytest.raises(ValueError, match=r"the labels have shape \(1, 1, 4, 1\)"):
        loss(torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 1, dtype=torch.int64))

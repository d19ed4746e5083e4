"""Losses against float64 numpy formulas, and against torch's where torch has them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from msdtool.data import IGNORED
from msdtool.measure.masking import masked_mean
from msdtool.train.losses import (
    CrossEntropyLoss,
    DiceLoss,
    GramLoss,
    IntervalLoss,
    RegressionLoss,
    SSIMLoss,
    WeightedSum,
    balanced_weights,
)
from tests.measure.test_ssim import pair, ssim_formula

WIDE = settings(deadline=None, max_examples=25)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


# Of the size of the difference and huber_delta.
PIXELWISE = {
    "L1": lambda size, delta: size,
    "L2": lambda size, delta: size**2,
    "Huber": lambda size, delta: np.where(
        size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)
    ),
}


@WIDE
@given(
    name=st.sampled_from(list(PIXELWISE)),
    shape=shapes,
    delta=st.floats(0.1, 3),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pixelwise_losses_are_means_in_units_of_the_scale(name, shape, delta, masked, seed):
    output, target = pair(shape, seed)
    scale = np.random.default_rng(seed).uniform(0.5, 4, shape[1])
    values = PIXELWISE[name](np.abs(output - target) / scale[:, None, None], delta)
    mask = np.random.default_rng(seed + 1).random((shape[0], 1, *shape[2:])) < 0.5
    chosen = values[np.broadcast_to(mask, shape)] if masked else values
    loss = RegressionLoss(name, scale.tolist(), huber_delta=delta)(
        torch.tensor(output), torch.tensor(target), torch.tensor(mask) if masked else None
    )
    assert loss.item() == pytest.approx(chosen.mean() if chosen.size else 0.0, rel=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_an_interval_adds_the_pinball_losses_of_its_bounds(masked):
    output, target = pair((2, 6, 5, 4), 3)[0], pair((2, 2, 5, 4), 4)[1]
    scale = np.array([0.5, 3.0])[:, None, None]
    mask = np.random.default_rng(1).random((2, 1, 5, 4)) < 0.6
    chosen = np.broadcast_to(mask if masked else True, target.shape)
    result, low, high = np.split(output, 3, 1)
    expected = np.mean(((result - target) / scale)[chosen] ** 2)
    for bound, quantile in ((low, 0.1), (high, 0.9)):
        above = ((target - bound) / scale)[chosen]
        expected += np.mean(np.where(above > 0, quantile * above, (quantile - 1) * above))
    loss = IntervalLoss(RegressionLoss("L2", [0.5, 3.0]), 0.8, [0.5, 3.0])
    found = loss(*map(torch.tensor, (output, target)), torch.tensor(mask) if masked else None)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_constant_bounds_that_minimise_the_loss_are_quantiles():
    target = torch.tensor(np.random.default_rng(0).gamma(2, size=(1, 1, 40, 50)))
    loss = IntervalLoss(RegressionLoss("L2"), 0.9)

    def of_bounds(low, high):
        parts = [torch.full_like(target, value) for value in (target.mean().item(), low, high)]
        return loss(torch.cat(parts, 1), target).item()

    low, high = np.quantile(target, [0.05, 0.95])
    best = of_bounds(low, high)
    assert all(of_bounds(low + step, high) > best for step in (-0.05, 0.05))
    assert all(of_bounds(low, high + step) > best for step in (-0.2, 0.2))


def test_bounds_have_the_targets_shape():
    with pytest.raises(ValueError, match="the target has 1 channels, the network outputs 2"):
        IntervalLoss(RegressionLoss("L2"), 0.9)(torch.zeros(1, 6, 4, 4), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("name", "theirs"), [("L1", F.l1_loss), ("L2", F.mse_loss), ("Huber", F.huber_loss)]
)
def test_without_scale_and_mask_the_losses_are_torchs(name, theirs):
    output, target = map(torch.tensor, pair((2, 3, 7, 5)))
    torch.testing.assert_close(RegressionLoss(name)(output, target), theirs(output, target))


@pytest.mark.parametrize("masked", [False, True])
def test_ssim_loss_is_one_minus_the_mean_over_the_pixels_that_count(masked):
    x, y = pair((1, 2, 13, 14))
    mask = np.zeros((1, 1, 13, 14), bool)
    mask[..., 3:9, :7] = True
    chosen = np.broadcast_to(mask if masked else True, x.shape)[..., 5:-5, 5:-5]
    similarity = np.array([[ssim_formula(a, b, 3.0) for a, b in zip(x[0], y[0], strict=True)]])
    loss = SSIMLoss(3.0)(torch.tensor(x), torch.tensor(y), torch.tensor(mask) if masked else None)
    assert loss.item() == pytest.approx(1 - similarity[chosen].mean(), rel=1e-7)


def test_the_ssim_of_counts_far_from_zero_has_a_gradient_that_lowers_the_loss():
    rng = torch.Generator().manual_seed(0)
    target = 30_000 + torch.rand(1, 1, 20, 20, generator=rng)
    output = (target + 0.5 * torch.rand(1, 1, 20, 20, generator=rng)).requires_grad_()
    loss = SSIMLoss(1.0)(output, target)
    assert loss.dtype == torch.float32
    assert 0 < loss.item() < 2
    (grad,) = torch.autograd.grad(loss, output)
    step = 0.05 / grad.abs().max()
    assert SSIMLoss(1.0)(output - step * grad, target).item() < loss.item()


def test_an_empty_mask_yields_zero_and_no_gradient():
    output = torch.rand(1, 1, 4, 4, requires_grad=True)
    loss = RegressionLoss("L2")(output, torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4).bool())
    loss.backward()
    assert loss.item() == 0
    assert not output.grad.any()


def test_a_mask_counts_for_every_channel():
    values = torch.tensor([[[[1.0, 2.0]], [[3.0, 40.0]]]])  # [1, 2, 1, 2]
    assert masked_mean(values, torch.tensor([[[[True, False]]]])).item() == 2.0


def segmentation(shape, labels, seed=0, ignored=0.3):
    """Scores [B, K, *space] and class indices [B, 1, *space], some of them ignored."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(shape[0], labels, *shape[1:]))
    indices = rng.integers(0, labels, (shape[0], 1, *shape[1:]))
    indices[rng.random(indices.shape) < ignored] = IGNORED
    indices.flat[0] = 0
    return scores, indices


def probabilities(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cross_entropy_formula(scores, indices, weights):
    top = bottom = 0.0
    for place in np.argwhere(indices[:, 0] != IGNORED):
        b, *x = place
        k = indices[(b, 0, *x)]
        top -= weights[k] * np.log(probabilities(scores)[(b, k, *x)])
        bottom += weights[k]
    return top / bottom


def dice_formula(scores, indices):
    p, counts = probabilities(scores), indices[:, 0] != IGNORED
    dice = []
    for k in range(scores.shape[1]):
        truth, guess = (indices[:, 0] == k) * counts, p[:, k] * counts
        dice.append((2 * (truth * guess).sum() + 1) / (truth.sum() + guess.sum() + 1))
    return 1 - np.mean(dice)


@settings(deadline=None, max_examples=15)
@given(
    shape=st.sampled_from([(1, 3, 4), (2, 5, 2), (1, 2, 3, 4)]),
    labels=st.integers(2, 4),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_cross_entropy_and_dice_are_their_formulas(shape, labels, weighted, seed):
    scores, indices = segmentation(shape, labels, seed)
    weights = [0.5 + k for k in range(labels)] if weighted else None
    x, k = torch.tensor(scores), torch.tensor(indices)
    entropy = cross_entropy_formula(scores, indices, weights or [1] * labels)
    dice = dice_formula(scores, indices)
    assert CrossEntropyLoss(weights)(x, k).item() == pytest.approx(entropy)
    assert DiceLoss()(x, k).item() == pytest.approx(dice)


def test_cross_entropy_is_torchs():
    x, k = map(torch.tensor, segmentation((2, 6, 5), 3))
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    expected = F.cross_entropy(x, k[:, 0], weights, ignore_index=IGNORED)
    found = CrossEntropyLoss(weights.tolist())(x, k)
    torch.testing.assert_close(found, expected)


def test_dice_is_about_zero_for_a_sure_and_right_answer_and_one_for_a_wrong_one():
    indices = torch.tensor([0, 1]).repeat_interleave(5000).reshape(1, 1, 100, 100)
    sure = 100.0 * F.one_hot(indices[:, 0], 2).movedim(-1, 1)
    assert DiceLoss()(sure, indices).item() == pytest.approx(0, abs=1e-6)
    assert DiceLoss()(sure, 1 - indices).item() == pytest.approx(1, abs=1e-3)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=6).filter(any))
def test_balanced_weights_make_every_label_count_the_same(counts):
    weights = balanced_weights(counts)
    for weight, count in zip(weights, counts, strict=True):
        if count:
            assert weight * count == pytest.approx(sum(counts) / len(counts))
        else:
            assert weight == 1


def test_balanced_weights_of_equally_frequent_labels_are_one():
    assert balanced_weights([7, 7, 7]) == [1, 1, 1]


def test_gram_compares_mean_products_of_features():
    loss = GramLoss([1.0, 2.0], [0.5, 4.0], 2)
    output = torch.randn(3, 2, 12, 11, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 2, 12, 11, dtype=torch.float64)

    def mean_products(image):
        normalised = (image - torch.tensor([1.0, 2.0])[:, None, None]) / torch.tensor([0.5, 4.0])[
            :, None, None
        ]
        features = loss.features.double()(normalised)
        return torch.einsum("bchw,bdhw->bcd", features, features) / (12 * 11)

    expected = (mean_products(output) - mean_products(target)).square().mean((1, 2)).mean()
    torch.testing.assert_close(loss(output, target), expected)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), output)
    assert loss(target, target) == 0
    assert mean_products(target).shape == (3, 34, 34)


def test_gram_tells_textures_apart_that_differ_in_no_single_pixel():
    stripes = torch.tensor([1.0, -1.0]).repeat(16)
    horizontal = stripes[:, None].expand(1, 1, 32, 32)
    blocks = stripes[:, None].roll(1, 0).expand(1, 1, 32, 32)
    vertical = horizontal.transpose(2, 3)
    loss = GramLoss([0.0], [1.0], 2)
    # Half of the pixels agree in either case.
    assert loss(horizontal, vertical) > 10 * loss(horizontal, blocks)


def test_gram_leaves_out_what_does_not_count_and_draws_no_random_numbers():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    loss = GramLoss([0.0], [1.0], 3)
    assert torch.equal(torch.get_rng_state(), state)
    target, mask = torch.rand(1, 1, 4, 5, 6), torch.zeros(1, 1, 4, 5, 6).bool()
    assert loss(target + 1, target, mask) == 0
    other = GramLoss([0.0], [1.0], 3)
    for a, b in zip(loss.features.parameters(), other.features.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_weighted_sum_adds_up():
    output, target = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    l1, l2 = RegressionLoss("L1"), RegressionLoss("L2")
    total = WeightedSum([(2.0, l1), (0.5, l2)])(output, target)
    torch.testing.assert_close(total, 2 * l1(output, target) + 0.5 * l2(output, target))

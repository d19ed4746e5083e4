"""Holes in inputs: what is hidden, and that it does not count."""

import numpy as np
import pytest
import torch

from msdtool.data import IGNORED, Sample
from msdtool.data.cut_out import CutOut


def make_sample(space, *, labels=False, mask=None, scale=1):
    rng = torch.Generator().manual_seed(0)
    fine = [scale * length for length in space]
    input = 100 + torch.rand(2, *space, generator=rng)
    target = torch.rand(1, *fine, generator=rng)
    if labels:
        target = torch.randint(0, 3, (1, *fine), generator=rng)
    return Sample(input, target, mask, torch.tensor(4))


@pytest.mark.parametrize("space", [(20, 30), (8, 12, 10)])
@pytest.mark.parametrize("seed", range(4))
def test_a_box_is_replaced_by_the_mean_and_does_not_count(space, seed):
    before = make_sample(space)
    after = CutOut((0.5, 0.5))(before, np.random.default_rng(seed))
    hidden = ~after.mask
    edges = [
        torch.nonzero(hidden[0].movedim(axis, 0).flatten(1).any(1)) for axis in range(len(space))
    ]
    sizes = [int(edge.max() - edge.min() + 1) for edge in edges]
    assert sizes == [length // 2 for length in space]
    assert int(hidden.sum()) == np.prod(sizes)
    for old, new in zip(before.input, after.input, strict=True):
        assert torch.equal(old[~hidden[0]], new[~hidden[0]])
        assert new[hidden[0]].tolist() == pytest.approx(
            [old.double().mean().item()] * np.prod(sizes)
        )
    assert torch.equal(after.target[after.mask], before.target[after.mask])
    assert int(after.indices) == 4
    assert before.mask is None and not (before.input == after.input).all()


def test_a_mask_keeps_what_it_leaves_out():
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[..., :10] = True
    after = CutOut((0.3, 0.6))(make_sample((20, 30), mask=mask), np.random.default_rng(0))
    assert not after.mask[~mask].any()
    assert 0 < int(after.mask.sum()) < int(mask.sum())


def test_hidden_labels_are_ignored_at_the_scale_of_the_target():
    before = make_sample((10, 10), labels=True, scale=2)
    after = CutOut((0.4, 0.4))(before, np.random.default_rng(0), 2)
    hidden = (after.input != before.input).any(0)
    fine = hidden.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert int(hidden.sum()) == 16 and after.mask is None
    assert (after.target[0][fine] == IGNORED).all()
    assert torch.equal(after.target[0][~fine], before.target[0][~fine])


def test_samples_without_a_hole_go_into_a_batch_with_others():
    after = CutOut((0.0, 0.0))(make_sample((10, 10)), np.random.default_rng(0))
    assert after.mask.all() and after.mask.shape == (1, 10, 10)
    assert torch.equal(after.input, make_sample((10, 10)).input)


def test_every_place_may_be_hidden():
    counts = torch.zeros(6, 6)
    for seed in range(200):
        counts += ~CutOut((0.34, 0.34))(make_sample((6, 6)), np.random.default_rng(seed)).mask[0]
    assert (counts > 0).all()

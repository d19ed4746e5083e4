"""Random symmetries."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.data import Sample
from msdtool.data.transforms import random_symmetry

SPACES = st.lists(st.integers(1, 7), min_size=2, max_size=3)
SEEDS = st.integers(0, 2**32 - 1)


def numbered(space, masked=True):
    """A sample whose values tell where each pixel comes from: input, target and mask agree."""
    count = int(np.prod(space))
    input = torch.arange(2 * count, dtype=torch.float32).reshape(2, *space)
    mask = torch.arange(count).reshape(1, *space) % 3 == 0 if masked else None
    target = torch.arange(count).reshape(1, *space)
    return Sample(input, target, mask, torch.tensor(5))


def assert_images_agree(sample):
    """Input, target and mask have been treated alike."""
    count = sample.input[1].flatten() - sample.input[0].flatten()
    assert len(set(count.tolist())) == 1
    assert torch.equal(sample.input[0], sample.target[0].float())
    if sample.mask is not None:
        assert torch.equal(sample.mask, sample.target % 3 == 0)
    assert int(sample.indices) == 5


def eight_symmetries(plane):
    """By transposing and reversing, in plain numpy."""
    planes = [plane, plane.T]
    return [p[rows, columns] for p in planes
            for rows in (slice(None), slice(None, None, -1))
            for columns in (slice(None), slice(None, None, -1))]  # fmt: skip


def symmetries_of(array):
    """All ways to order and reverse the axes, in plain numpy."""
    axes = range(array.ndim)
    return [
        np.flip(array.transpose(order), reversed_axes)
        for order in permutations(axes)
        for count in range(array.ndim + 1)
        for reversed_axes in combinations(axes, count)
    ]


@given(SPACES, SEEDS, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=100)
def test_a_symmetry_orders_and_reverses_the_axes(space, seed, masked, keep_shape):
    sample = numbered(space, masked)
    turned = random_symmetry(sample, np.random.default_rng(seed), keep_shape)
    assert_images_agree(turned)
    if keep_shape:
        assert turned.input.shape == sample.input.shape
    after = turned.target[0].numpy()
    assert any(np.array_equal(after, one) for one in symmetries_of(sample.target[0].numpy()))


@given(SPACES, SEEDS, st.booleans())
@settings(deadline=None, max_examples=60)
def test_in_plane_slices_stay_slices(space, seed, keep_shape):
    """All slices turn by one of the eight symmetries, and come in order or the other way round."""
    sample = numbered(space)
    turned = random_symmetry(sample, np.random.default_rng(seed), keep_shape, in_plane=True)
    before = sample.target.reshape(-1, *space[-2:]).numpy()
    after = turned.target.reshape(-1, *turned.target.shape[-2:]).numpy()
    orders = [before, before[::-1]] if len(space) == 3 else [before]
    assert any(
        set.intersection(*[
            {k for k, plane in enumerate(eight_symmetries(b)) if np.array_equal(plane, a)}
            for b, a in zip(order, after, strict=True)
        ])
        for order in orders
    )  # fmt: skip


@pytest.mark.parametrize(
    ("space", "options", "expected"),
    [
        ((3, 3), {}, 8),
        ((3, 3), {"keep_shape": True}, 8),
        ((3, 4), {}, 8),
        ((3, 4), {"keep_shape": True}, 4),
        ((3, 3, 3), {}, 48),
        ((3, 3, 3), {"keep_shape": True}, 48),
        ((2, 3, 4), {}, 48),
        ((2, 3, 3), {"keep_shape": True}, 16),
        ((2, 3, 4), {"keep_shape": True}, 8),
        ((3, 3, 3), {"in_plane": True}, 16),
    ],
)
def test_all_symmetries_are_drawn(space, options, expected):
    rng = np.random.default_rng(0)
    options = {"keep_shape": False, **options}
    found = {
        str(random_symmetry(numbered(space), rng, **options).target.tolist()) for _ in range(1000)
    }
    assert len(found) == expected


def test_a_slab_is_turned_as_a_volume_with_a_fixed_centre():
    """Sixteen symmetries; the channels of each slice keep their order, the target is turned too."""
    slices = torch.arange(5 * 2 * 9, dtype=torch.float32).reshape(5, 2, 3, 3)
    sample = Sample(slices.flatten(0, 1), slices[2, :1].clone(), None, torch.tensor(0))
    expected = {}
    for order in (slices, slices.flip(0)):
        turned = [[eight_symmetries(c.numpy()) for c in channels] for channels in order]
        for k in range(8):
            slab = [channel[k].tolist() for channels in turned for channel in channels]
            expected[str(slab)] = [turned[2][0][k].tolist()]
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(300):
        one = random_symmetry(sample, rng, True, slab=2)
        assert one.target.tolist() == expected[str(one.input.tolist())]
        found.add(str(one.input.tolist()))
    assert len(found) == 16


@pytest.mark.parametrize("keep_shape", [True, False])
def test_symmetries_draw_the_same_numbers_whatever_the_shape(keep_shape):
    states = []
    for space in ((3, 3), (3, 4), (2, 5, 5), (3, 3, 3), (2, 3, 4)):
        rng = np.random.default_rng(7)
        random_symmetry(numbered(space), rng, keep_shape)
        states.append(rng.random())
    assert len(set(states[:2])) == len(set(states[2:])) == 1

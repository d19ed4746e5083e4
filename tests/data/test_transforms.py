"""Random crops and symmetries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.data import Sample
from msdtool.data.transforms import random_crop, random_symmetry

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


@given(SPACES, SEEDS, st.booleans(), st.data())
@settings(deadline=None, max_examples=60)
def test_a_crop_is_a_window_of_all_images(space, seed, masked, data):
    size = [data.draw(st.integers(1, length)) for length in space]
    sample = numbered(space, masked)
    crop = random_crop(sample, size, np.random.default_rng(seed))
    assert crop.input.shape == (2, *size)
    assert_images_agree(crop)
    # The numbers of a window: that of its corner, and steps that the image's shape gives.
    steps = [int(np.prod(space[axis + 1 :])) for axis in range(len(space))]
    grid = np.indices(size)
    expected = int(crop.target.flatten()[0]) + sum(s * g for s, g in zip(steps, grid, strict=True))
    np.testing.assert_array_equal(crop.target[0].numpy(), expected)


def test_every_window_is_drawn_equally_often():
    rng = np.random.default_rng(0)
    corners = [int(random_crop(numbered((4, 3)), (2, 2), rng).target[0, 0, 0]) for _ in range(3000)]
    values, counts = np.unique(corners, return_counts=True)
    assert values.tolist() == [0, 1, 3, 4, 6, 7]
    # Six windows, 500 each: a deviation of 5 sigma is 102.
    assert np.abs(counts - 500).max() < 102


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"a crop of \(2, 6\) does not fit .* of \(4, 5\)"):
        random_crop(numbered((4, 5)), (2, 6), np.random.default_rng(0))


def eight_symmetries(plane):
    """By transposing and reversing, in plain numpy."""
    planes = [plane, plane.T]
    return [p[rows, columns] for p in planes
            for rows in (slice(None), slice(None, None, -1))
            for columns in (slice(None), slice(None, None, -1))]  # fmt: skip


@given(SPACES, SEEDS, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=100)
def test_a_symmetry_is_one_of_eight_in_plane(space, seed, masked, keep_shape):
    sample = numbered(space, masked)
    turned = random_symmetry(sample, np.random.default_rng(seed), keep_shape)
    assert_images_agree(turned)
    if keep_shape:
        assert turned.input.shape == sample.input.shape
    # The same one for every slice of a volume, which stay in their order.
    before = sample.target.reshape(-1, *space[-2:]).numpy()
    after = turned.target.reshape(-1, *turned.target.shape[-2:]).numpy()
    found = [
        {k for k, plane in enumerate(eight_symmetries(b)) if np.array_equal(plane, a)}
        for b, a in zip(before, after, strict=True)
    ]
    assert set.intersection(*found)


@pytest.mark.parametrize(
    ("space", "keep_shape", "expected"),
    [
        ((3, 3), False, 8),
        ((3, 3), True, 8),
        ((3, 4), False, 8),
        ((3, 4), True, 4),
        ((2, 3, 3), True, 8),
        ((2, 3, 4), True, 4),
    ],
)
def test_all_symmetries_are_drawn(space, keep_shape, expected):
    rng = np.random.default_rng(0)
    found = {
        str(random_symmetry(numbered(space), rng, keep_shape).target.tolist()) for _ in range(200)
    }
    assert len(found) == expected


@pytest.mark.parametrize("keep_shape", [True, False])
def test_symmetries_draw_the_same_numbers_whatever_the_shape(keep_shape):
    states = []
    for space in ((3, 3), (3, 4), (2, 5, 5)):
        rng = np.random.default_rng(7)
        random_symmetry(numbered(space), rng, keep_shape)
        states.append(rng.random())
    assert len(set(states)) == 1

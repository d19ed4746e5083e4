"""Windows: random ones, ones around a pixel, grids and blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.data.patches import blocks, extent, grid, inside, random_window, whole, window_around

SPACES = st.lists(st.integers(1, 9), min_size=2, max_size=3)
SEEDS = st.integers(0, 2**32 - 1)


def numbers_in(space, window):
    return np.arange(np.prod(space)).reshape(space)[window]


@given(SPACES, SEEDS, st.data())
@settings(deadline=None, max_examples=60)
def test_a_random_window_lies_inside_and_has_its_size(space, seed, data):
    size = [data.draw(st.integers(1, length)) for length in space]
    window = random_window(space, size, np.random.default_rng(seed))
    assert list(extent(window)) == size == list(numbers_in(space, window).shape)


def test_every_window_is_drawn_equally_often():
    rng = np.random.default_rng(0)
    corners = [numbers_in((4, 3), random_window((4, 3), (2, 2), rng))[0, 0] for _ in range(3000)]
    values, counts = np.unique(corners, return_counts=True)
    assert values.tolist() == [0, 1, 3, 4, 6, 7]
    # Six windows, 500 each: a deviation of 5 sigma is 102.
    assert np.abs(counts - 500).max() < 102


@given(SPACES, SEEDS, st.data())
@settings(deadline=None, max_examples=60)
def test_a_window_around_a_pixel_holds_it(space, seed, data):
    size = [data.draw(st.integers(1, length)) for length in space]
    point = [data.draw(st.integers(0, length - 1)) for length in space]
    window = window_around(point, space, size, np.random.default_rng(seed))
    found = numbers_in(space, window)
    assert list(found.shape) == size
    assert np.ravel_multi_index(point, space) in found


def test_every_window_that_holds_a_pixel_is_drawn():
    rng = np.random.default_rng(0)
    starts = {window_around((3, 0), (6, 4), (3, 2), rng)[0].start for _ in range(100)}
    assert starts == {1, 2, 3}


def test_a_window_larger_than_the_image_is_refused():
    for draw in (random_window, lambda *a: window_around((0, 0), *a)):
        with pytest.raises(ValueError, match=r"a window of \(2, 6\) does not fit .* of \(4, 5\)"):
            draw((4, 5), (2, 6), np.random.default_rng(0))


@given(SPACES, st.data())
@settings(deadline=None, max_examples=60)
def test_a_window_of_a_window_counts_from_its_corner(space, data):
    rng = np.random.default_rng(data.draw(SEEDS))
    outer = random_window(space, [data.draw(st.integers(1, n)) for n in space], rng)
    inner = random_window(extent(outer), [data.draw(st.integers(1, n)) for n in extent(outer)], rng)
    expected = numbers_in(space, outer)[inner]
    np.testing.assert_array_equal(numbers_in(space, inside(outer, inner)), expected)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(2, 15), st.data())
@settings(deadline=None, max_examples=150)
def test_each_pixel_counts_in_one_patch_of_a_grid_and_has_context(space, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    counted = np.zeros(space, int)
    for window, core in grid(space, [size] * len(space), overlap):
        assert extent(window) == tuple(min(size, length) for length in space)
        counted[inside(window, core)] += 1
        for length, seen, part in zip(space, window, core, strict=True):
            assert seen.start == 0 or part.start >= overlap // 2
            assert seen.stop == length or seen.stop - seen.start - part.stop >= overlap // 2
    assert (counted == 1).all()


def test_a_grid_has_no_more_patches_than_needed():
    # Steps of 8 - 2 = 6: 3 windows reach 8 + 2 * 6 = 20 pixels, the 21st needs a fourth.
    assert len(grid((20,), (8,), 2)) == 3
    assert len(grid((21,), (8,), 2)) == 4
    assert [patch.window[0].start for patch in grid((20,), (8,), 2)] == [0, 6, 12]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=3), st.integers(1, 100))
@settings(deadline=None, max_examples=60)
def test_blocks_are_the_image_in_order(space, max_pixels):
    parts = [numbers_in(space, window) for window in blocks(space, max_pixels)]
    np.testing.assert_array_equal(np.concatenate(parts), numbers_in(space, whole(space)))
    assert all(part.size <= max_pixels or len(part) == 1 for part in parts)
    assert len(parts) == 1 or all(part.size + part[0].size > max_pixels for part in parts[:-1])

"""Deformations against scipy's interpolation at places computed by a formula of their own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from msdtool.data import IGNORED, Sample
from msdtool.data.geometry import Deformation, Geometry, deformed, rotation_matrix, smooth_field
from msdtool.data.patches import enlarged, whole

SPACES = st.sampled_from([(12, 15), (9, 7), (6, 9, 8)])
EXAMPLES = settings(deadline=None, max_examples=25)


class Images:
    """Pairs of one image, in memory, as `PairReader` describes them."""

    def __init__(self, input, target, mask=None, scale=1):
        self.scale = scale
        self.tensors = [None if x is None else torch.as_tensor(x) for x in (input, target, mask)]
        self.windows = []

    def sample(self, index, window=None, *, central_only=False):
        self.windows.append(window)
        fine = enlarged(window, self.scale)
        input, target, mask = (
            None if x is None else x[(slice(None), *part)]
            for x, part in zip(self.tensors, (window, fine, fine), strict=True)
        )
        return Sample(input, target, mask, torch.tensor(index))


def places_formula(deformation, corner=(), scale=1):
    """Pixel by pixel: the matrix on what a pixel is from the centre, and its displacement."""
    space = np.array(deformation.space)
    corner = np.zeros(len(space)) if len(corner) == 0 else np.array(corner)
    found = np.zeros((len(space), *(scale * space)))
    for pixel in np.ndindex(*(scale * space)):
        at = (np.array(pixel) + 0.5) / scale
        place = deformation.matrix @ (at - space / 2) + space / 2 - 0.5 + corner
        if deformation.displacement is not None:
            place = place + deformation.displacement[(slice(None), *pixel)].numpy()
        found[(slice(None), *pixel)] = place
    return found


def inside(places, space):
    return np.all([(p >= -0.5) & (p <= n - 0.5) for p, n in zip(places, space, strict=True)], 0)


def interpolated(image, places, order):
    """`map_coordinates` of each channel, mirrored at the pixels' outer edges."""
    options = {"order": order, "mode": "reflect", "prefilter": False}
    return np.stack(
        [map_coordinates(channel.astype(float), places, **options) for channel in image]
    )


def draw(space, seed, **ranges):
    rng = np.random.default_rng(seed)
    ranges = {"rotation": (-180, 180), "scale": (0.7, 1.4), "elastic": (0, 1.0), **ranges}
    return Geometry(**{"elastic_sigma": 3.0, **ranges}).draw(space, rng)


@EXAMPLES
@given(space=SPACES, seed=st.integers(0, 999), offset=st.sampled_from([0.0, 30_000.0]))
def test_inputs_and_targets_are_interpolated_at_the_same_places(space, seed, offset):
    rng = np.random.default_rng(seed)
    input = (offset + rng.normal(size=(2, *space))).astype(np.float32)
    target = (offset + rng.normal(size=(1, *space))).astype(np.float32)
    deformation = draw(space, seed)
    sample = deformed(Images(input, target), 0, whole(space), space, deformation)
    places = places_formula(deformation)
    counts = inside(places, space)
    tolerance = 2e-4 if offset == 0 else 5e-3  # places in float32; a unit of float32 at the offset
    np.testing.assert_allclose(sample.input, interpolated(input, places, 1), atol=tolerance)
    np.testing.assert_array_equal(sample.mask[0], counts)
    expected = np.where(counts, interpolated(target, places, 1), 0)
    np.testing.assert_allclose(sample.target, expected, atol=tolerance)
    assert sample.input.dtype == sample.target.dtype == torch.float32
    assert int(sample.indices) == 0


@EXAMPLES
@given(space=SPACES, seed=st.integers(0, 999))
def test_labels_are_those_of_the_nearest_pixel(space, seed):
    rng = np.random.default_rng(seed)
    target = rng.choice([0, 1, 2, 65_535, IGNORED], (1, *space))
    deformation = draw(space, seed)
    sample = deformed(
        Images(target.astype(np.float32), target), 3, whole(space), space, deformation
    )
    places = places_formula(deformation)
    expected = np.where(inside(places, space), interpolated(target, places, 0), IGNORED)
    # Half-way between two pixels, rounding decides.
    clear = np.all(np.abs(places - np.floor(places) - 0.5) > 1e-4, 0)
    np.testing.assert_array_equal(sample.target[0][clear], expected[0][clear])
    assert (sample.target.dtype, sample.mask) == (torch.int64, None)
    assert clear.mean() > 0.9


@EXAMPLES
@given(space=SPACES, seed=st.integers(0, 999))
def test_what_does_not_count_has_no_share_in_what_does(space, seed):
    rng = np.random.default_rng(seed)
    true = (1000 + rng.normal(size=(1, *space))).astype(np.float32)
    mask = rng.random((1, *space)) < 0.8
    deformation = draw(space, seed)
    images = Images(true, np.where(mask, true, 0).astype(np.float32), mask)
    sample = deformed(images, 0, whole(space), space, deformation)
    places = places_formula(deformation)
    np.testing.assert_allclose(
        sample.target[sample.mask], interpolated(true, places, 1)[sample.mask], atol=3e-3
    )
    assert not sample.target[~sample.mask].any()
    share = interpolated(mask.astype(float), places, 1)[0]  # of pixels that count
    counts = sample.mask[0].numpy()
    assert not counts[share < 1 - 1e-4].any()
    assert counts[(share > 1 - 1e-9) & inside(places, space)].mean() > 0.98
    nothing = Images(true, 0 * true, np.zeros_like(mask))
    assert not deformed(nothing, 0, whole(space), space, deformation).mask.any()


def test_a_window_shows_what_lies_around_it():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 60, 70)).astype(np.float32)
    space, window = (60, 70), (slice(20, 36), slice(30, 50))
    deformation = draw((16, 20), 1, rotation=(45, 45), scale=(1, 1))
    images = Images(image, image)
    sample = deformed(images, 0, window, space, deformation)
    places = places_formula(deformation, corner=(20, 30))
    np.testing.assert_allclose(sample.input, interpolated(image, places, 1), atol=2e-4)
    assert sample.mask.all()
    ((rows, columns),) = images.windows
    assert 0 < rows.start < 20 and 36 < rows.stop < 60  # no more is read than needed
    assert rows.stop - rows.start == math.ceil(places[0].max()) + 1 - math.floor(places[0].min())
    assert columns.stop - columns.start < 45


def test_a_window_at_the_border_is_reflected_there_and_does_not_count():
    image = np.random.default_rng(0).normal(size=(1, 40, 40)).astype(np.float32)
    window, corner = (slice(0, 12), slice(28, 40)), (0, 28)
    deformation = draw((12, 12), 1, rotation=(45, 45), scale=(0.8, 0.8))
    sample = deformed(Images(image, image), 0, window, (40, 40), deformation)
    places = places_formula(deformation, corner)
    np.testing.assert_allclose(sample.input, interpolated(image, places, 1), atol=2e-4)
    np.testing.assert_array_equal(sample.mask[0], inside(places, (40, 40)))
    assert not sample.mask.all()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_is_numpys(turns):
    image = np.random.default_rng(0).normal(size=(1, 9, 9)).astype(np.float32)
    deformation = draw((9, 9), 0, rotation=(90 * turns, 90 * turns), scale=(1, 1), elastic=None)
    sample = deformed(Images(image, image), 0, whole((9, 9)), (9, 9), deformation)
    assert sample.mask.all()
    np.testing.assert_allclose(sample.input[0], np.rot90(image[0], -turns), atol=1e-5)


def test_a_scale_above_1_enlarges():
    image = np.zeros((1, 21, 21), np.float32)
    image[0, 8:13, 8:13] = 1
    deformation = draw((21, 21), 0, rotation=None, scale=(2, 2), elastic=None)
    sample = deformed(Images(image, image), 0, whole((21, 21)), (21, 21), deformation)
    assert float(sample.input.sum()) == pytest.approx(4 * 25)


def test_targets_of_another_size_keep_their_place():
    """A plane is a plane whatever the pixels, so targets of 2 x 2 pixels have the input's mean."""
    rows, columns = (np.arange(n) + 0.5 for n in (30, 40))
    input = (2 * rows[:, None] - columns)[None].astype(np.float32)
    fine = [(np.arange(2 * n) + 0.5) / 2 for n in (30, 40)]
    target = (2 * fine[0][:, None] - fine[1])[None].astype(np.float32)
    window = (slice(8, 20), slice(14, 28))
    deformation = draw((12, 14), 2, rotation=(30, 30), scale=(1.1, 1.1), elastic_sigma=8.0)
    sample = deformed(Images(input, target, scale=2), 0, window, (30, 40), deformation)
    assert sample.target.shape == (1, 24, 28) and sample.mask.all()
    blocks = sample.target.reshape(12, 2, 14, 2).mean((1, 3))
    np.testing.assert_allclose(blocks[1:-1, 1:-1], sample.input[0, 1:-1, 1:-1], atol=0.05)
    affine = Deformation(deformation.space, deformation.matrix, None)
    np.testing.assert_allclose(affine.places(2), places_formula(affine, scale=2), atol=1e-12)


def test_slices_are_deformed_alike_and_within_themselves():
    slices = np.random.default_rng(0).normal(size=(1, 1, 12, 14)).astype(np.float32)
    volume = slices.repeat(5, 1) + np.arange(5, dtype=np.float32)[:, None, None]
    deformation = draw((5, 12, 14), 3, in_plane=True)
    sample = deformed(Images(volume, volume), 0, whole((5, 12, 14)), (5, 12, 14), deformation)
    steps = sample.input[0, 1:] - sample.input[0, :-1]
    np.testing.assert_allclose(steps, 1, atol=1e-4)
    assert (sample.mask[:, 1:] == sample.mask[:, :-1]).all()
    assert deformation.displacement.shape == (3, 5, 12, 14)
    assert deformation.displacement[1:].any() and not deformation.displacement[0].any()


@given(angle=st.floats(-math.pi, math.pi), seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_rotation_keeps_lengths_and_orientation_and_has_its_angle(angle, seed):
    for ndim in (2, 3):
        matrix = rotation_matrix(angle, ndim, np.random.default_rng(seed))
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(ndim), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        assert np.trace(matrix) == pytest.approx(ndim - 2 + 2 * math.cos(angle))


@pytest.mark.parametrize(("space", "sigma"), [((300, 260), 8.0), ((300, 260), 3.0),
                                              ((50, 60, 70), 6.0)])  # fmt: skip
def test_a_smooth_field_has_the_spread_and_the_correlation_of_its_gaussian(space, sigma):
    field = smooth_field(space, sigma, np.random.default_rng(0))
    assert field.shape == space
    spread = float(field.square().mean().sqrt())
    assert spread == pytest.approx(1, abs=0.15)
    lag = round(2 * sigma)
    product = float((field[lag:] * field[:-lag]).mean()) / spread**2
    assert product == pytest.approx(math.exp(-(lag**2) / (4 * sigma**2)), abs=0.15)
    assert float((field[1:] - field[:-1]).abs().max()) < 4 / sigma


def test_only_what_is_given_is_applied():
    deformation = Geometry(scale=(2, 2)).draw((8, 8), np.random.default_rng(0))
    np.testing.assert_array_equal(deformation.matrix, np.eye(2) / 2)
    assert deformation.displacement is None
    elastic = Geometry(elastic=(1.5, 1.5)).draw((200, 200), np.random.default_rng(0))
    np.testing.assert_array_equal(elastic.matrix, np.eye(2))
    assert float(elastic.displacement.std()) == pytest.approx(1.5, rel=0.15)

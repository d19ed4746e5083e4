"""Hidden pixels: how many, where, and what takes their place, against numpy and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from msdtool.config import load_config
from msdtool.data import Sample
from msdtool.data.blind_spots import BlindSpots, stratified
from msdtool.data.build import build_datasets, build_samples
from msdtool.errors import InputError
from tests.helpers import write_experiment, write_noisy_pairs

RNG = np.random.default_rng


def blind(image, *arguments, slab=0, seed=0, target=None, counts=None, **keys):
    """An image [C, *space] with hidden pixels, and which of them count."""
    image = torch.from_numpy(np.asarray(image, np.float32))
    target = image if target is None else torch.from_numpy(target)
    sample = Sample(image, target, counts, torch.tensor(0))
    keys = {"mask": {}, **keys}
    sample = BlindSpots(*arguments, **keys)(sample, RNG(seed), slab)
    return sample.input.numpy(), sample.mask.numpy()[0], sample


def distinct(*shape):
    """An image in which no two pixels are equal."""
    return RNG(1).permutation(math.prod(shape)).reshape(shape).astype(np.float32)


# Where ---------------------------------------------------------------------------------------


def test_64_of_64_x_64_pixels_are_hidden_one_in_each_box():
    """The numbers of the paper."""
    for seed in range(20):
        places = stratified((64, 64), 64 / 64**2, RNG(seed))
        assert len(places) == 64
        assert len({tuple(place) for place in places // 8}) == 64


def test_every_pixel_has_the_same_chance():
    draws = 3000
    space, fraction = (13, 10), 0.03
    counts = np.zeros(space)
    for seed in range(draws):
        np.add.at(counts, tuple(stratified(space, fraction, RNG(seed)).T), 1)
    # Each count is binomial but for the few boxes that share a pixel.
    expected = draws * fraction
    deviation = (counts - expected) / math.sqrt(expected * (1 - fraction))
    assert abs(deviation).max() < 4.5
    assert deviation.std() == pytest.approx(1, abs=0.2)


def test_spots_are_drawn_evenly_in_a_box():
    places = np.concatenate([stratified((8, 8, 8), 8**-3, RNG(seed)) for seed in range(2000)])
    assert len(places) == 2000
    for axis in range(3):
        assert stats.chisquare(np.bincount(places[:, axis], minlength=8)).pvalue > 1e-3


def test_only_hidden_pixels_change_and_count():
    image = distinct(2, 40, 48)
    hidden, counted, sample = blind(image, 1 / 64, 2)
    changed = (hidden != image).any(0)
    assert np.array_equal(changed, counted)
    assert counted.sum() == 30
    assert np.array_equal(sample.target.numpy(), image)


# What takes their place ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 24, 32), (2, 8, 12, 16)])
def test_a_random_pixel_of_the_window_takes_the_place_of_all_channels(shape):
    image = distinct(*shape)
    hidden, counted, _ = blind(image, 1 / 16, 2)
    where = {value: place for place, value in np.ndenumerate(image[0])}
    spots = [tuple(place) for place in np.argwhere(counted)]
    for spot in spots:
        source = where[hidden[(0, *spot)]]
        assert hidden[(1, *spot)] == image[(1, *source)]
        distance = abs(np.subtract(source, spot)).max()
        assert 1 <= distance <= 2
    assert len(spots) > 40


def test_pixels_of_the_window_are_drawn_evenly():
    """5 x 5 pixels, as in the paper, without the spot itself."""
    image = distinct(1, 64, 64)
    where = {value: place for place, value in np.ndenumerate(image[0])}
    offsets = []
    for seed in range(80):
        hidden, counted, _ = blind(image, 1 / 64, 2, seed=seed)
        for spot in np.argwhere(counted):
            if (spot >= 2).all() and (spot < 62).all():
                offsets.append(np.subtract(where[hidden[(0, *spot)]], spot))
    found = np.bincount(np.array(offsets) @ [5, 1] + 12, minlength=25)
    assert found[12] == 0
    assert stats.chisquare(np.delete(found, 12)).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(24, 32), (9, 12, 16)])
@pytest.mark.parametrize("radius", [1, 2])
def test_medians_are_those_of_the_window_without_the_spot(shape, radius):
    image = RNG(4).normal(size=(1, *shape)).astype(np.float32)
    hidden, counted, _ = blind(image, 1 / 8, radius, median=True)
    footprint = np.ones((2 * radius + 1,) * len(shape), bool)
    footprint[(radius,) * len(shape)] = False
    expected = ndimage.generic_filter(
        image[0].astype(np.float64), np.nanmedian, footprint=footprint, mode="constant", cval=np.nan
    )
    np.testing.assert_allclose(hidden[0][counted], expected[counted], rtol=1e-6, atol=1e-7)


# Masks along axes ----------------------------------------------------------------------------


@pytest.mark.parametrize("median", [False, True])
@pytest.mark.parametrize(("mask", "shape"), [({"X": 3}, (1, 7)), ({"Y": 2, "X": 1}, (5, 3))])
def test_a_mask_hides_pixels_along_axes_that_do_not_count(mask, shape, median):
    image = distinct(1, 60, 60)
    hidden, counted, _ = blind(image, 1 / 400, 4, mask=mask, median=median)
    cross = np.zeros(shape, bool)
    cross[shape[0] // 2] = True
    cross[:, shape[1] // 2] = True
    assert np.array_equal(hidden[0] != image[0], ndimage.binary_dilation(counted, cross))
    assert counted.sum() == 9


def test_values_never_come_from_the_mask():
    """Pixels of a spot's row are 1, all others 0: noise that is the same along rows."""
    image = np.zeros((1, 30, 30), np.float32)
    for seed in range(30):
        for median in (False, True):
            _, counted, _ = blind(image, 1 / 900, 2, mask={"X": 40}, seed=seed)
            rows = image.copy()
            rows[0, np.argwhere(counted)[0][0]] = 1
            hidden, again, _ = blind(rows, 1 / 900, 2, mask={"X": 40}, seed=seed, median=median)
            assert np.array_equal(again, counted)
            assert not hidden.any()


def test_a_slab_is_hidden_in_its_central_slice_or_across_slices():
    volume = distinct(5, 2, 32, 32)
    slab, target = volume.reshape(10, 32, 32), volume[2]
    for mask, slices in (({}, [2]), ({"Z": 1}, [1, 2, 3])):
        hidden, counted, sample = blind(slab, 1 / 64, 2, slab=2, target=target, mask=mask)
        changed = (hidden.reshape(volume.shape) != volume).all(1)
        for number, found in enumerate(changed):
            assert np.array_equal(found, counted) == (number in slices)
            assert found.any() == (number in slices)
        central = {float(value) for value in volume[2, 0].ravel()}
        assert {float(value) for value in hidden.reshape(volume.shape)[2, 0][counted]} <= central
        assert torch.equal(
            sample.target[:, torch.from_numpy(counted)], torch.from_numpy(target[:, counted])
        )


def test_user_masks_still_hold():
    counts = torch.zeros(1, 32, 32, dtype=torch.bool)
    counts[:, :16] = True
    _, everywhere, _ = blind(distinct(1, 32, 32), 1 / 64, 2)
    _, found, _ = blind(distinct(1, 32, 32), 1 / 64, 2, counts=counts)
    assert np.array_equal(found, everywhere & counts.numpy()[0])
    assert 0 < found.sum() < everywhere.sum()


def test_a_line_has_no_window():
    with pytest.raises(
        InputError, match=r"a sample of 1 x 9 pixels is too small for data\.train\.bl"
    ):
        blind(distinct(1, 1, 9), 1 / 4, 1)


# In an experiment ----------------------------------------------------------------------------


def experiment(tmp_path, **data):
    noisy = write_noisy_pairs(tmp_path / "train", 4, (32, 32))["input"]
    train = {"input": noisy, "blind_spot": {"fraction": 0.1}, **data.pop("train", {})}
    config = write_experiment(tmp_path / "a.yaml", {"data": {"train": train, **data}})
    return load_config(config)


def test_spots_depend_on_seed_epoch_and_number_alone(tmp_path):
    config = experiment(tmp_path)
    pairs, _ = build_datasets(config)
    samples, again = (build_samples(config, pairs, [1.0]) for _ in range(2))
    again.sample((1, 1))
    masks = [samples.sample((epoch, number)).mask for epoch in (0, 1) for number in range(4)]
    assert torch.equal(again.sample((1, 2)).mask, masks[6])
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])


def test_augmented_samples_count_where_they_are_hidden(tmp_path):
    """Symmetries come later: a mask along X follows the image's rows wherever they turn."""
    spots = {"fraction": 1 / 1024, "mask": {"X": 3}}
    config = experiment(
        tmp_path, train={"blind_spot": spots}, augment=True, intensity={"gain": [2, 2]}
    )
    pairs, _ = build_datasets(config)
    samples = build_samples(config, pairs, [1.0])
    shapes = set()
    for epoch in range(16):
        sample = samples.sample((epoch, 1))
        image = pairs.sample(1).input[0].numpy()
        turned = [np.rot90(side, k) for side in (image, image.T) for k in range(4)]
        changed = min((sample.input[0].numpy() / 2 != side for side in turned), key=np.sum)
        shapes.add(tuple(int(np.ptp(where) > 0) for where in np.nonzero(changed)))
        assert changed.sum() <= 7 and sample.mask.sum() == 1
        assert changed[sample.mask[0].numpy()].all()
    assert shapes == {(0, 1), (1, 0)}


@pytest.mark.parametrize("part", [{"fraction": 0.5}, {"fraction": 0.5, "patch": 16}])
def test_held_out_images_are_hidden_always_alike(tmp_path, part):
    _, validation = build_datasets(experiment(tmp_path, validation=part))
    for index in range(len(validation)):
        sample, again = validation.sample(index), validation.sample(index)
        assert torch.equal(sample.input, again.input) and torch.equal(sample.mask, again.mask)
        assert 0 < sample.mask.sum() < 0.2 * sample.mask.numel()
        assert (sample.input != sample.target)[sample.mask].all()


def test_a_block_of_a_single_row_counts_nowhere(tmp_path):
    _, validation = build_datasets(experiment(tmp_path, validation={"fraction": 0.5}))
    sample = validation.sample(0, (slice(31, 32), slice(0, 32)))
    assert sample.mask.shape == (1, 1, 32) and not sample.mask.any()


def test_clean_validation_images_are_not_hidden(tmp_path):
    clean = write_noisy_pairs(tmp_path / "v", 2)
    _, validation = build_datasets(experiment(tmp_path, validation=clean))
    assert validation.sample(0).mask is None
    assert not torch.equal(validation.sample(0).input, validation.sample(0).target)

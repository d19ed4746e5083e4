"""Training samples: windows, symmetries and intensities that follow from (seed, epoch, number)."""

import numpy as np
import pytest
import torch

from msdtool import ImageDataset, InputError
from msdtool.data.augment import Intensity
from msdtool.data.cut_out import CutOut
from msdtool.data.foreground import Foreground
from msdtool.data.geometry import Geometry
from msdtool.data.loaders import ShuffledBatches, training_batches
from msdtool.data.samples import TrainingSamples

from ..helpers import write_labelled_pairs, write_noisy_pairs, write_stack

GEOMETRY = Geometry(rotation=(-30, 30), scale=(0.8, 1.2), elastic=(0, 0.5), elastic_sigma=2.0)


@pytest.fixture
def volumes(tmp_path):
    """Two volumes whose target is the input plus one."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(6, 8, 10)).astype(np.float32) for _ in range(2)]
    return ImageDataset(
        write_stack(tmp_path / "in", arrays),
        write_stack(tmp_path / "out", [array + 1 for array in arrays]),
        ndim=3,
    )


def load(pairs, workers=0, **options):
    samples = TrainingSamples(pairs, seed=3, **options)
    batches = ShuffledBatches(len(samples), 2, 2, seed=3)
    return list(training_batches(samples, batches, workers))


def test_everything_random_is_the_same_with_any_number_of_workers(volumes):
    options = {
        "crop": (4, 4, 4),
        "crops_per_image": 3,
        "augment": True,
        "geometry": GEOMETRY,
        "intensity": Intensity([1.0], gain=(0.5, 2), gaussian_noise=(0, 1), blur=(0, 1)),
        "cut_out": CutOut((0, 0.5)),
        "foreground": Foreground(volumes, seed=3, above=2.0),
        "foreground_fraction": 0.5,
    }
    alone, others = load(volumes, **options), load(volumes, workers=2, **options)
    assert len(alone) == len(others) == 6
    for a, b in zip(alone, others, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if x is not None)


def test_several_crops_of_an_image_differ_and_name_it(volumes):
    samples = TrainingSamples(volumes, seed=0, crop=(2, 2, 2), crops_per_image=4)
    assert len(samples) == 8
    drawn = [samples.sample((0, number)) for number in range(8)]
    assert [int(sample.indices) for sample in drawn] == [0] * 4 + [1] * 4
    assert len({str(sample.input.tolist()) for sample in drawn}) == 8


def test_only_the_input_changes_its_values(volumes):
    intensity = Intensity([1.0], gain=(2, 2))
    plain = TrainingSamples(volumes, seed=0, crop=(3, 3, 3), augment=True)
    changed = TrainingSamples(volumes, seed=0, crop=(3, 3, 3), augment=True, intensity=intensity)
    a, b = plain.sample((0, 1)), changed.sample((0, 1))
    assert torch.equal(b.input, 2 * a.input) and torch.equal(b.target, a.target)


def test_intensity_follows_from_seed_epoch_and_number(volumes):
    def ratio(seed, epoch, number):
        intensity = Intensity([1.0], gain=(0.5, 2))
        sample = TrainingSamples(volumes, seed=seed, intensity=intensity).sample((epoch, number))
        return round(float((sample.input / (sample.target - 1)).median()), 4)

    draws = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({ratio(*draw) for draw in draws}) == 4
    assert ratio(0, 1, 1) == ratio(0, 1, 1)


def test_geometry_and_holes_follow_from_seed_epoch_and_number(volumes):
    def draw(seed, epoch, number):
        samples = TrainingSamples(
            volumes, seed=seed, crop=(4, 5, 6), geometry=GEOMETRY, cut_out=CutOut((0.3, 0.5))
        )
        sample = samples.sample((epoch, number))
        return sample.input, sample.target, sample.mask

    draws = [draw(*place) for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({str(input.tolist()) for input, _, _ in draws}) == 4
    assert len({str(mask.tolist()) for _, _, mask in draws}) == 4
    for a, b in zip(draw(0, 1, 1), draw(0, 1, 1), strict=True):
        assert torch.equal(a, b)


def test_inputs_and_targets_stay_together_whatever_is_done_to_them(volumes):
    for crop in ((4, 5, 6), None):
        options = {"geometry": GEOMETRY, "augment": True, "crop": crop}
        for number in range(2):
            sample = TrainingSamples(volumes, seed=0, **options).sample((0, number))
            difference = (sample.target - sample.input)[sample.mask]
            assert 0 < difference.numel() <= sample.mask.numel()
            torch.testing.assert_close(difference, torch.ones_like(difference))
            plain = TrainingSamples(volumes, seed=0, **{**options, "geometry": None})
            undeformed = plain.sample((0, number)).input
            assert sorted(undeformed.shape) == sorted(sample.input.shape)
            assert not torch.equal(
                undeformed.flatten().sort().values, sample.input.flatten().sort().values
            )


def test_slabs_are_deformed_with_their_targets(tmp_path):
    rng = np.random.default_rng(0)
    slices = rng.normal(size=(5, 12, 12)).astype(np.float32)
    folder = write_stack(tmp_path / "a", slices)
    dataset = ImageDataset(folder, folder, slab=1)
    geometry = Geometry(rotation=(20, 20), scale=(1.2, 1.2), elastic=(1, 1), elastic_sigma=4.0)
    for index in (1, 2):
        sample = TrainingSamples(dataset, seed=0, geometry=geometry).sample((0, index))
        assert torch.allclose(sample.input[1:2][sample.mask], sample.target[sample.mask])
        # Its neighbours are where they are when they are deformed alone, by the same draw.
        alone = TrainingSamples(ImageDataset(folder, folder), seed=0, geometry=geometry)
        alone.pairs.inputs.read = lambda i, window=None: torch.tensor(
            slices[i - 1][None][(slice(None), *window)]
        )
        torch.testing.assert_close(alone.sample((0, index)).input, sample.input[:1])


def test_labels_outside_of_the_image_or_in_a_hole_are_ignored(tmp_path):
    specs = write_labelled_pairs(tmp_path / "t", 1)
    dataset = ImageDataset(specs["input"], specs["target"], labels=[0, 127, 255])
    options = {"geometry": Geometry(rotation=(45, 45)), "cut_out": CutOut((0.3, 0.3))}
    sample = TrainingSamples(dataset, seed=0, **options).sample((0, 0))
    assert set(sample.target.unique().tolist()) == {0, 1, 2, -100}
    assert sample.target[0, 0, 0] == sample.target[0, -1, -1] == -100


def test_slabs_are_turned_with_their_targets(tmp_path):
    rng = np.random.default_rng(0)
    folder = write_stack(tmp_path / "a", rng.normal(size=(5, 6, 6)).astype(np.float32))
    samples = TrainingSamples(ImageDataset(folder, folder, slab=1), seed=0, augment=True)
    for epoch in range(8):
        sample = samples.sample((epoch, 2))
        assert torch.equal(sample.input[1:2], sample.target)
    first = {round(float(samples.sample((epoch, 2)).input[0].sum()), 3) for epoch in range(8)}
    assert len(first) == 2  # either neighbour may come first


def foreground_of(tmp_path, **options):
    pairs = write_labelled_pairs(tmp_path / "t", 2)
    dataset = ImageDataset(pairs["input"], pairs["target"], labels=[0, 127, 255])
    return dataset, Foreground(dataset, seed=1, **options)


def test_foreground_is_drawn_from_each_label_alike(tmp_path):
    dataset, foreground = foreground_of(tmp_path, labels=[0, 2])
    rng = np.random.default_rng(0)
    target = dataset.sample(0).target[0]
    counts = torch.bincount(target.flatten(), minlength=3)
    assert counts.min() > 0 and counts[0] != counts[2]
    drawn = [int(target[tuple(foreground.draw(0, rng))]) for _ in range(1000)]
    # Half of 1000 draws, to 5 standard deviations.
    assert abs(drawn.count(0) - 500) < 80 and set(drawn) == {0, 2}


def test_what_is_drawn_does_not_depend_on_what_was_asked_before(tmp_path):
    _, first = foreground_of(tmp_path, labels=[2])
    dataset = first.pairs
    first.draw(0, np.random.default_rng(0))
    other = Foreground(dataset, seed=1, labels=[2])
    assert first.draw(1, np.random.default_rng(5)) == other.draw(1, np.random.default_rng(5))


def test_every_pixel_of_the_foreground_may_be_drawn(tmp_path, monkeypatch):
    """Also when an image is looked at block by block."""
    monkeypatch.setattr("msdtool.data.foreground.BLOCK_PIXELS", 50)
    dataset, foreground = foreground_of(tmp_path, labels=[1])
    rng = np.random.default_rng(0)
    drawn = {tuple(foreground.draw(1, rng)) for _ in range(5000)}
    assert drawn == set(map(tuple, np.argwhere(dataset.sample(1).target[0].numpy() == 1).tolist()))


def test_a_regressions_foreground_is_bright_or_counts(tmp_path):
    noisy = write_noisy_pairs(tmp_path / "t", 1)
    mask = np.zeros((20, 24), np.uint8)
    mask[3:5, 7:20] = 1
    masks = write_stack(tmp_path / "mask", [mask])
    dataset = ImageDataset(noisy["input"], noisy["target"], mask_path_specifier=masks)
    target = dataset.sample(0).target[0].numpy()
    rng = np.random.default_rng(0)
    for above in (None, float(np.median(target[mask > 0]))):
        foreground = Foreground(dataset, seed=0, above=above)
        for _ in range(50):
            point = tuple(foreground.draw(0, rng))
            assert mask[point] and (above is None or target[point] > above)


def test_a_share_of_the_crops_holds_foreground(tmp_path):
    """A single labelled pixel in an image of 40 x 40: a random crop of 4 x 4 rarely holds it."""
    label = np.zeros((40, 40), np.uint8)
    label[11, 30] = 1
    folder = write_stack(tmp_path / "t", [label, np.zeros_like(label)])
    dataset = ImageDataset(folder, folder, labels=2)
    for share, low, high in ((1.0, 300, 300), (0.5, 107, 193)):  # 5 standard deviations
        foreground = Foreground(dataset, seed=0, labels=[1])
        samples = TrainingSamples(
            dataset, seed=0, crop=(4, 4), foreground=foreground, foreground_fraction=share
        )
        held = sum(bool(samples.sample((epoch, 0)).target.any()) for epoch in range(300))
        assert low <= held <= high
    # An image without foreground gives crops from anywhere.
    assert samples.sample((0, 1)).target.shape == (1, 4, 4)


def test_a_crop_that_does_not_fit_names_the_image(volumes):
    with pytest.raises(InputError) as error:
        TrainingSamples(volumes, seed=0, crop=(7, 4, 4)).sample((0, 1))
    assert error.value.message == (
        f"{volumes.name(1)} is 6 x 8 x 10 pixels, smaller than data.crop 7 x 4 x 4; "
        "choose a smaller crop"
    )

"""Dividing a training set."""

import itertools

import numpy as np
import pytest
import tifffile
import torch

from msdtool import ImageDataset, InputError
from msdtool.data.holdout import hold_out_fraction, hold_out_slices, patchwise, use_fraction

from ..helpers import write_stack


@pytest.fixture
def slices(tmp_path):
    """Two folders, volumes of 6 and 4 slices."""
    for name, count in (("a", 6), ("b", 4)):
        write_stack(tmp_path / name, np.full((count, 3, 3), ord(name), np.float32))
    return ImageDataset(f"{tmp_path}/*/*.tif", f"{tmp_path}/*/*.tif")


@pytest.fixture
def volume(tmp_path):
    array = np.random.default_rng(0).normal(size=(8, 6, 5)).astype(np.float32)
    folder = write_stack(tmp_path / "v", [array])
    return ImageDataset(folder, folder, ndim=3), array


def files(pairs):
    return ["/".join(pairs.name(k).split("/")[-2:]) for k in range(len(pairs))]


def test_a_smaller_fraction_is_a_part_of_a_larger_one(slices):
    chosen = [set(files(use_fraction(slices, f, seed=4))) for f in (0.01, 0.3, 0.7, 1.0)]
    assert [len(names) for names in chosen] == [1, 3, 7, 10]
    assert all(a < b for a, b in itertools.pairwise(chosen))
    assert set(files(use_fraction(slices, 0.3, seed=5))) != chosen[1]


def test_fractions_of_what_was_not_held_out(slices):
    train, held_out = hold_out_fraction(slices, 0.2, seed=0)
    part = use_fraction(train, 0.5, seed=0)
    assert (len(train), len(held_out), len(part)) == (8, 2, 4)
    assert set(files(part)) < set(files(train)) and not set(files(part)) & set(files(held_out))


def test_slices_are_held_out_of_each_volume(slices):
    train, held_out = hold_out_slices(slices, [(0, 1), (2, 4)], ndim=2)
    assert files(held_out) == [f"{v}/image_00{k}.tif" for v in "ab" for k in (0, 2, 3)]
    assert files(train) == [
        *(f"a/image_00{k}.tif" for k in (1, 4, 5)), "b/image_001.tif",
    ]  # fmt: skip


def test_a_volume_is_cut_along_its_first_axis(volume):
    pairs, array = volume
    train, held_out = hold_out_slices(pairs, [(6, 8), (2, 3)], ndim=3)
    spans = {"train": [(0, 2), (3, 6)], "held out": [(2, 3), (6, 8)]}
    for name, part in (("train", train), ("held out", held_out)):
        assert len(part) == 2
        for k, (start, stop) in enumerate(spans[name]):
            sample = part.sample(k)
            assert part.space(k) == (stop - start, 6, 5)
            assert int(sample.indices) == k and part.image(k) == 0
            np.testing.assert_array_equal(sample.input[0], array[start:stop])
            assert part.name(k).endswith(f"v/image_000.tif[{start}:{stop}, 0:6, 0:5]")
    window = (slice(1, 3), slice(2, 6), slice(0, 2))
    np.testing.assert_array_equal(train.sample(1, window).input[0], array[4:6, 2:6, 0:2])


@pytest.mark.parametrize("ndim", [2, 3])
def test_ranges_that_do_not_fit_are_refused(slices, volume, ndim):
    pairs, name, count = (
        (slices, f"the volume of {slices.name(6)}", 4)
        if ndim == 2
        else (volume[0], volume[0].name(0), 8)
    )
    with pytest.raises(InputError) as error:
        hold_out_slices(pairs, [(1, count + 1)], ndim)
    assert error.value.message == (
        f"{name} has {count} slices; a range of data.validation.slices ends at {count + 1}"
    )
    with pytest.raises(InputError) as error:
        hold_out_slices(pairs, [(0, 2), (2, count)], ndim)
    assert error.value.message == (
        f"{name}: data.validation.slices holds out all {count} slices; none is left to train on"
    )


def test_patches_count_each_pixel_once(volume):
    pairs, array = volume
    patches = patchwise(pairs, (4, 4, 5), overlap=2)
    assert len(patches) == 3 * 2
    total = 0.0
    for k in range(len(patches)):
        sample = patches.sample(k)
        assert sample.input.shape == sample.target.shape == (1, 4, 4, 5)
        assert sample.mask.shape == (1, 4, 4, 5)
        assert not sample.target[~sample.mask].any()
        total += float(sample.target.double().sum())
    assert total == pytest.approx(array.sum(dtype=np.float64))


def test_patches_of_labels_and_masks(tmp_path):
    rng = np.random.default_rng(0)
    labels, mask = rng.integers(0, 2, (2, 9, 9), np.uint8)
    specs = [write_stack(tmp_path / name, [a]) for name, a in (("l", labels), ("m", mask))]
    segmentation = ImageDataset(specs[0], specs[0], labels=2, mask_path_specifier=specs[1])
    regression = ImageDataset(specs[0], specs[0], mask_path_specifier=specs[1])
    counted = [0, 0]
    for pairs, kind in ((segmentation, 0), (regression, 1)):
        patches = patchwise(pairs, (5, 5), overlap=1)
        for k in range(len(patches)):
            sample = patches.sample(k)
            counts = sample.target[0] != -100 if kind == 0 else sample.mask[0]
            assert (sample.mask is None) == (kind == 0)
            assert torch.equal(sample.target[0][counts].float(), sample.input[0][counts])
            counted[kind] += int(counts.sum())
    assert counted == [int(mask.sum())] * 2


def test_patches_of_held_out_slices_in_slabs(tmp_path):
    """Everything together: neighbours come from the whole volume, windows from each slice."""
    array = np.random.default_rng(0).normal(size=(6, 7, 5)).astype(np.float32)
    folder = write_stack(tmp_path / "v", array)
    pairs = ImageDataset(folder, folder, slab=1)
    _, held_out = hold_out_slices(pairs, [(4, 6)], ndim=2)
    patches = patchwise(held_out, (4, 5), overlap=0)
    assert len(patches) == 4 and patches.slab == 1
    np.testing.assert_array_equal(patches.sample(2).input, array[[4, 5, 4], 0:4])
    assert patches.name(2) == f"{folder}/image_005.tif[0:4, 0:5]"


def test_a_window_is_read_without_the_rest_but_sizes_are_checked(tmp_path):
    folders = [write_stack(tmp_path / n, [np.zeros((4, 4), np.float32)]) for n in ("a", "b")]
    tifffile.imwrite(folders[1] / "image_000.tif", np.zeros((4, 5), np.float32))
    with pytest.raises(InputError, match=r"is 4 x 4 pixels, its target .* is 4 x 5"):
        ImageDataset(*folders).sample(0, (slice(0, 2), slice(0, 2)))

"""Samples hold the levels of the whole input that they are taken from."""

import numpy as np
import pytest
import tifffile

from msdtool import ImageDataset
from msdtool.data.holdout import hold_out_slices, patchwise, use_fraction
from msdtool.data.own_levels import PairsWithLevels, with_levels
from msdtool.data.splits import SplitPairs
from msdtool.errors import InputError
from msdtool.scaling import Scaling
from tests.helpers import write_stack

RNG = np.random.default_rng(0)
HOW = Scaling(per="image")


def images(count=3, shape=(12, 14)):
    return [
        (RNG.uniform(1, 9) * RNG.random(shape) + RNG.uniform(-5, 5)).astype(np.float32)
        for _ in range(count)
    ]


def expected(image):
    exact = np.asarray(image, np.float64)
    return [[exact.mean()], [exact.std()]]


def test_windows_and_patches_have_those_of_the_whole_image(tmp_path):
    shown = images()
    folder = write_stack(tmp_path / "a", shown)
    pairs = PairsWithLevels(ImageDataset(folder, folder), HOW, with_target=True)
    window = (slice(2, 6), slice(3, 9))
    patches = patchwise(pairs, (8, 8), 2)
    assert with_levels(patches) is pairs
    for index, image in enumerate(shown):
        sample = pairs.sample(index, window)
        np.testing.assert_allclose(sample.levels, expected(image), rtol=1e-10)
        assert sample.target_levels is sample.levels
        np.testing.assert_array_equal(sample.input[0], image[window])
    for index in range(len(patches)):
        levels = patches.sample(index).levels
        np.testing.assert_allclose(levels, expected(shown[patches.image(index)]), rtol=1e-10)


def test_a_slab_has_those_of_its_central_slice(tmp_path):
    shown = images()
    folder = write_stack(tmp_path / "a", shown)
    pairs = PairsWithLevels(ImageDataset(folder, folder, slab=1), HOW, with_target=True)
    for index, image in enumerate(shown):
        sample = pairs.sample(index)
        assert len(sample.input) == 3
        np.testing.assert_allclose(sample.levels, expected(image), rtol=1e-10)


def test_a_part_of_a_volume_has_its_own(tmp_path):
    volume = np.stack(images(6)).astype(np.float32)
    tifffile.imwrite(tmp_path / "v.tif", volume, photometric="minisblack")
    pairs = ImageDataset(tmp_path / "v.tif", tmp_path / "v.tif", ndim=3)
    kept, held_out = hold_out_slices(pairs, [(4, 6)], 3)
    for part, place in ((kept, np.s_[:4]), (held_out, np.s_[4:])):
        (levels,) = [PairsWithLevels(part, HOW, with_target=True).sample(0).levels]
        np.testing.assert_allclose(levels, expected(volume[place]), rtol=1e-10)


@pytest.mark.parametrize("strategy", ["X:1", "1:X"])
def test_each_input_of_splits_has_its_own_and_shares_them_with_the_target(tmp_path, strategy):
    folders = [write_stack(tmp_path / f"split{k}", images(2)) for k in range(3)]
    pairs = SplitPairs(folders, strategy=strategy)
    found = PairsWithLevels(pairs, HOW, with_target=True)
    for index in range(len(pairs)):
        sample = found.sample(index)
        read = [tifffile.imread(folder / f"image_{index // 3:03}.tif") for folder in folders]
        own = read.pop(index % 3)
        input = own if strategy == "1:X" else np.mean(read, axis=0, dtype=np.float64)
        np.testing.assert_allclose(sample.levels, expected(input), rtol=1e-6)
        assert sample.target_levels is sample.levels


def test_targets_of_another_quantity_have_none(tmp_path):
    folder = write_stack(tmp_path / "a", images())
    pairs = PairsWithLevels(ImageDataset(folder, folder), HOW, with_target=False)
    assert pairs.sample(0).target_levels is None
    assert with_levels(use_fraction(pairs, 0.5, 0)) is pairs
    assert with_levels(ImageDataset(folder, folder)) is None


def test_a_target_of_other_channels_cannot_share_them(tmp_path):
    colour = [np.stack(images()) for _ in range(2)]
    inputs = write_stack(tmp_path / "rgb", colour, "CYX")
    targets = write_stack(tmp_path / "grey", images(2))
    pairs = PairsWithLevels(ImageDataset(inputs, targets), HOW, with_target=True)
    with pytest.raises(InputError, match=r"1 channels, its input .* has 3, .*target: dataset"):
        pairs.sample(0)


def test_an_image_that_is_not_finite_is_refused(tmp_path):
    bad = images()
    bad[1][0, 0] = np.nan
    folder = write_stack(tmp_path / "a", bad)
    pairs = PairsWithLevels(ImageDataset(folder, folder), HOW, with_target=True)
    with pytest.raises(InputError, match=r"image_001.tif: 1 of 168 values are NaN or infinite"):
        pairs.sample(1, (slice(4, 6), slice(4, 6)))

"""Pairs of sub-reconstructions, and their means, against numpy."""

import numpy as np
import pytest
import tifffile
import torch

from msdtool import InputError
from msdtool.data.holdout import hold_out_fraction, hold_out_slices
from msdtool.data.inputs import open_inputs
from msdtool.data.splits import SplitPairs
from msdtool.data.statistics import measure

from ..helpers import write_stack

K = 3


@pytest.fixture
def arrays():
    return np.random.default_rng(0).normal(size=(K, 5, 6, 7)).astype(np.float32)


@pytest.fixture
def folders(tmp_path, arrays):
    return [write_stack(tmp_path / f"split_{k}", arrays[k]) for k in range(K)]


def mean_of_others(arrays, k):
    return np.delete(arrays, k, axis=0).mean(axis=0, dtype=np.float64).astype(np.float32)


@pytest.mark.parametrize("strategy", ["X:1", "1:X"])
def test_each_split_is_once_the_target_or_the_input_of_each_image(folders, arrays, strategy):
    pairs = SplitPairs(folders, strategy=strategy)
    assert len(pairs) == 5 * K
    for index in range(len(pairs)):
        image, k = divmod(index, K)
        one, others = arrays[k, image], mean_of_others(arrays[:, image], k)
        expected = (others, one) if strategy == "X:1" else (one, others)
        input, target = pairs[index]
        np.testing.assert_array_equal(input[0], expected[0])
        np.testing.assert_array_equal(target[0], expected[1])
        sample = pairs.sample(index, (slice(1, 3), slice(2, 7)))
        np.testing.assert_array_equal(sample.input[0], expected[0][1:3, 2:7])
        assert int(sample.indices) == index and pairs.image(index) == image


def test_slabs_are_made_of_means(folders, arrays):
    pairs = SplitPairs(folders, slab=1)
    expected = np.stack([mean_of_others(arrays[:, z], 1) for z in (2, 3, 4)])
    np.testing.assert_array_equal(pairs.sample(3 * K + 1).input, expected)
    np.testing.assert_array_equal(pairs.sample(3 * K + 1, central_only=True).input, expected[1:2])


def test_names_tell_what_a_pair_is_made_of(folders):
    pairs = SplitPairs(folders)
    assert pairs.name(1) == f"{folders[0]}/image_000.tif (mean with 1 more)"
    assert pairs.target_name(1) == f"{folders[1]}/image_000.tif"
    assert SplitPairs(folders[:2]).name(0) == f"{folders[1]}/image_000.tif"


def test_whole_slices_are_held_out(folders):
    for train, held_out in (
        hold_out_slices(SplitPairs(folders), [(1, 3)], 2),
        hold_out_fraction(SplitPairs(folders), 0.4, seed=0),
    ):
        images = [{part.image(k) for k in range(len(part))} for part in (train, held_out)]
        assert (len(train), len(held_out)) == (3 * K, 2 * K)
        assert not images[0] & images[1] and images[0] | images[1] == set(range(5))


def test_one_pair_of_each_image_is_measured(folders, arrays):
    pairs = SplitPairs(folders)
    statistics = measure(pairs)
    targets = np.stack([arrays[z % K, z] for z in range(5)]).astype(np.float64)
    inputs = np.stack([mean_of_others(arrays[:, z], z % K) for z in range(5)]).astype(np.float64)
    for moments, expected in ((statistics.input, inputs), (statistics.target, targets)):
        np.testing.assert_allclose(moments.mean, expected.mean(), rtol=1e-10)
        np.testing.assert_allclose(moments.std, expected.std(), rtol=1e-10)
    # Parts of the images are measured likewise.
    part = hold_out_slices(pairs, [(1, 3)], 2)[0]
    assert [(part.image(k), k % K) for k in part.to_measure()] == [(0, 0), (3, 0), (4, 1)]


def test_masks_tell_what_counts_of_the_target(folders, tmp_path):
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[:, :2] = 1
    pairs = SplitPairs(folders, mask_path_specifier=write_stack(tmp_path / "mask", mask))
    sample = pairs.sample(4)
    assert sample.mask.sum() == 14 and not sample.target[~sample.mask].any()


def test_splits_need_equally_many_images_of_one_size(folders):
    (folders[2] / "image_004.tif").unlink()
    with pytest.raises(InputError) as error:
        SplitPairs(folders)
    assert error.value.message == (
        f"found 5 split 1 images ({folders[0]}/image_000.tif ...) but 4 split 3 images "
        f"({folders[2]}/image_000.tif ...); each split 1 needs one, in the same natural order; "
        f"without a partner: {folders[0]}/image_004.tif"
    )
    tifffile.imwrite(folders[2] / "image_004.tif", np.zeros((6, 8), np.float32))
    with pytest.raises(InputError) as error:
        SplitPairs(folders).sample(4 * K)
    assert error.value.message == (
        f"{folders[1]}/image_004.tif is 6 x 7 pixels, its other split "
        f"{folders[2]}/image_004.tif is 6 x 8; both need the same size"
    )


@pytest.mark.parametrize(("strategy", "slab"), [("X:1", 0), ("1:X", 0), ("X:1", 1)])
def test_a_trained_network_gets_the_inputs_of_all_splits(folders, strategy, slab):
    inputs, files = open_inputs(folders, splits=K, strategy=strategy, slab=slab)
    pairs = SplitPairs(folders, strategy=strategy, slab=slab)
    assert (len(inputs), len(files), inputs.space(2)) == (5, K, (6, 7))
    expected = torch.cat([pairs.sample(2 * K + k).input for k in range(K)])
    assert torch.equal(inputs.read(2), expected)
    window = (slice(0, 2), slice(3, 5))
    assert torch.equal(inputs.read(2, window), expected[:, :2, 3:5])


def test_a_trained_network_takes_single_images_too(folders, arrays):
    inputs, _ = open_inputs(folders[:1], splits=K, slab=1)
    np.testing.assert_array_equal(inputs.read(2), arrays[0, 1:4])


@pytest.mark.parametrize("splits", [0, 2, 4])
def test_another_number_of_splits_is_refused(folders, splits):
    with pytest.raises(InputError) as error:
        open_inputs(folders, splits=splits)
    assert error.value.message.startswith(f"the network was trained on {splits} splits: give one")


def test_splits_that_are_the_same_images_are_refused(folders):
    twice = [folders[0], folders[1], folders[0]]
    for use in (SplitPairs, lambda splits: open_inputs(splits, splits=K)):
        with pytest.raises(InputError) as error:
            use(twice)
        assert error.value.message.startswith(
            f"{folders[0]}/image_000.tif: is both split 1 and split 3, which need noise of their "
        )


def test_repeats_that_are_the_same_images_are_refused(folders):
    with pytest.raises(InputError, match="is both input and target, which need noise of their own"):
        SplitPairs([folders[0], folders[0]], kinds=("input", "target"))

"""Pairs of input and target images."""

from functools import partial

import numpy as np
import pytest
import tifffile
import torch
from torch.utils.data import DataLoader

from msdtool import ImageDataset, InputError
from msdtool.data import IGNORED, SubsetOf
from msdtool.data.foreground import Foreground
from msdtool.data.subsets import Part

from ..helpers import write_image, write_stack

write = partial(write_stack, axes="CYX")


@pytest.fixture
def folders(tmp_path):
    """Two pairs with masks; the second is larger."""
    rng = np.random.default_rng(0)
    shapes = [(4, 5), (6, 7)]
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    masks = [rng.integers(0, 2, shape, np.uint8) for shape in shapes]
    return (
        write(tmp_path / "in", inputs),
        write(tmp_path / "out", [image + 1 for image in inputs]),
        write(tmp_path / "mask", masks),
    )


def read(path):
    return tifffile.imread(path)[np.newaxis].tolist()


def test_pairs_are_in_order(folders):
    dataset = ImageDataset(*folders[:2])
    assert len(dataset) == 2
    for index, name in enumerate(("image_000.tif", "image_001.tif")):
        input, target = dataset[index]
        assert input.tolist() == read(folders[0] / name)
        assert target.tolist() == read(folders[1] / name)
        assert dataset.name(index) == str(folders[0] / name)
        assert int(dataset.sample(index).indices) == index
    with pytest.raises(IndexError):
        dataset[2]


def test_torch_can_load_it(folders):
    shapes = [input.shape for input, _ in DataLoader(ImageDataset(*folders[:2]))]
    assert shapes == [(1, 1, 4, 5), (1, 1, 6, 7)]


def test_masked_values_become_zero_and_the_mask_is_bool(folders):
    bad = read(folders[1] / "image_000.tif")
    target = np.array(bad[0], np.float32)
    mask = tifffile.imread(folders[2] / "image_000.tif")
    target[mask == 0] = np.nan
    tifffile.imwrite(folders[1] / "image_000.tif", target)
    dataset = ImageDataset(*folders[:2], mask_path_specifier=folders[2])
    input, found, found_mask = dataset[0]
    assert found_mask.dtype == torch.bool and found_mask.tolist() == [(mask != 0).tolist()]
    np.testing.assert_array_equal(found[0], np.where(mask, target, 0))
    assert input.tolist() == read(folders[0] / "image_000.tif")


def test_any_mask_value_but_0_counts(folders):
    tifffile.imwrite(
        folders[2] / "image_000.tif", np.tile(np.float32([0, 255, -1, 0.5, 0]), (4, 1))
    )
    dataset = ImageDataset(*folders[:2], mask_path_specifier=folders[2])
    assert dataset[0][2][0, 0].tolist() == [False, True, True, True, False]


def test_masked_labels_are_ignored(tmp_path):
    dataset = ImageDataset(
        write(tmp_path / "in", [[[1.0, 2.0, 3.0, 4.0]]]),
        write(tmp_path / "out", [np.uint8([[0, 7, 9, 7]])]),
        labels=[7, 0],
        ignore=9,
        mask_path_specifier=write(tmp_path / "mask", [np.uint8([[1, 1, 1, 0]])]),
    )
    _, target = dataset[0]
    assert target.tolist() == [[[1, 0, IGNORED, IGNORED]]]
    assert dataset.num_labels == 2


def test_only_labelled_data_has_a_number_of_labels(folders):
    with pytest.raises(RuntimeError, match="no labels"):
        _ = ImageDataset(*folders[:2]).num_labels


def test_the_numbers_of_files_must_agree(folders):
    (folders[1] / "image_001.tif").unlink()
    with pytest.raises(InputError) as error:
        ImageDataset(*folders[:2])
    assert error.value.message == (
        f"found 2 input images ({folders[0]}/image_000.tif ...) but 1 target images "
        f"({folders[1]}/image_000.tif ...); each input needs one, in the same natural order"
    )
    (folders[1] / "image_001.tif").touch()
    (folders[2] / "image_001.tif").unlink()
    with pytest.raises(InputError, match=r"2 input images .* but 1 mask images"):
        ImageDataset(*folders[:2], mask_path_specifier=folders[2])


@pytest.mark.parametrize(("kind", "folder"), [("target", 1), ("mask", 2)])
def test_the_sizes_of_a_pair_must_agree(folders, kind, folder):
    tifffile.imwrite(folders[folder] / "image_001.tif", np.zeros((7, 6), np.float32))
    dataset = ImageDataset(*folders[:2], mask_path_specifier=folders[2])
    assert len(dataset[0]) == 3
    with pytest.raises(InputError) as error:
        dataset[1]
    assert error.value.message == (
        f"{folders[0]}/image_001.tif is 6 x 7 pixels, "
        f"its {kind} {folders[folder]}/image_001.tif is 7 x 6; both need the same size"
    )


def test_inputs_and_targets_may_differ_in_channels(tmp_path):
    dataset = ImageDataset(
        write(tmp_path / "in", [np.ones((3, 4, 5), np.uint8)]),
        write(tmp_path / "out", [np.ones((4, 5), np.uint8)]),
    )
    assert [image.shape for image in dataset[0]] == [(3, 4, 5), (1, 4, 5)]


def test_everything_can_be_kept_in_memory(folders):
    dataset = ImageDataset(*folders[:2], mask_path_specifier=folders[2])
    before = [[image.tolist() for image in dataset[index]] for index in (0, 1)]
    dataset.keep_in_memory()
    for folder in folders:
        for path in folder.iterdir():
            path.unlink()
    assert [[image.tolist() for image in dataset[index]] for index in (0, 1)] == before


def test_a_subset_counts_its_own_pairs(folders):
    dataset = ImageDataset(*folders[:2])
    subset = SubsetOf(dataset, [1])
    assert len(subset) == 1
    assert subset.name(0) == dataset.name(1)
    assert subset[0][0].tolist() == dataset[1][0].tolist()
    assert int(subset.sample(0).indices) == 0


@pytest.fixture
def larger_targets(tmp_path):
    """Inputs, each pixel of which is a block of 3 x 3 pixels of the target."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=shape).astype(np.float32) for shape in [(4, 5), (6, 7)]]
    return (
        write(tmp_path / "in", inputs),
        write(tmp_path / "out", [image.repeat(3, 0).repeat(3, 1) for image in inputs]),
        write(tmp_path / "mask", [np.full((12, 15), 1, np.uint8), np.eye(18, 21, dtype=np.uint8)]),
    )


def blown_up(image):
    return image.repeat_interleave(3, -1).repeat_interleave(3, -2)


def test_targets_may_be_a_whole_number_of_times_as_large(larger_targets):
    pairs = ImageDataset(*larger_targets[:2], mask_path_specifier=larger_targets[2])
    assert pairs.scale == 3
    assert pairs.space(1) == (6, 7)
    for window in (None, (slice(1, 4), slice(2, 6))):
        sample = pairs.sample(1, window)
        assert torch.equal(sample.target, torch.where(sample.mask, blown_up(sample.input), 0.0))
    assert sample.input.shape == (1, 3, 4)
    assert ImageDataset(larger_targets[0], larger_targets[0]).scale == 1


def test_parts_count_the_same_pixels_of_larger_targets(larger_targets):
    pairs = ImageDataset(*larger_targets[:2])
    core = (slice(1, 3), slice(0, 2))
    part = SubsetOf(pairs, [Part(1, (slice(2, 6), slice(1, 5)), core)])
    assert part.scale == 3
    sample = part.sample(0)
    inside = torch.zeros(1, 4, 4)
    inside[(slice(None), *core)] = 1
    assert torch.equal(sample.mask, blown_up(inside) == 1)
    cut = part.sample(0, (slice(2, 4), slice(1, 4)))
    assert torch.equal(cut.mask, sample.mask[:, 6:, 3:])


def test_one_target_of_another_scale_is_named(larger_targets):
    write_image(larger_targets[1] / "image_001.tif", np.zeros((12, 14), np.float32))
    with pytest.raises(
        InputError, match=r"image_001.tif is 6 x 7 pixels.*12 x 14; in the first pair.* 3 "
    ):
        ImageDataset(*larger_targets[:2]).sample(1)


def test_foreground_of_larger_targets_is_found_in_the_inputs(larger_targets):
    target = np.zeros((12, 15), np.float32)
    target[7, 11] = 1
    write_image(larger_targets[1] / "image_000.tif", target)
    foreground = Foreground(ImageDataset(*larger_targets[:2]), seed=0, above=0.5)
    assert foreground.draw(0, np.random.default_rng(0)) == [2, 3]

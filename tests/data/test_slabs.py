"""Slabs: neighbours in order, reflected at the ends, within their volume."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool import ImageDataset, ImageStack, InputError
from msdtool.data.slabs import SlabStack, central_slice, reflected
from msdtool.data.views import MeanStack


@given(st.integers(1, 12), st.integers(-40, 40))
@settings(deadline=None)
def test_reflection_is_numpys(length, position):
    padded = np.pad(np.arange(length), 40, mode="reflect")
    assert reflected(position, length) == padded[position + 40]


def write(folder, slices):
    folder.mkdir(parents=True)
    for number, image in enumerate(slices):
        write_channels(folder / f"{number}.tif", image)
    return folder


def write_channels(path, image):
    tifffile.imwrite(path, image, photometric="minisblack", metadata={"axes": "CYX"})


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(size=(5, 2, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("reach", [1, 2, 6])
def test_a_slab_is_the_volume_padded_by_reflection(tmp_path, volume, reach):
    slabs = SlabStack(ImageStack(write(tmp_path / "a", volume)), reach)
    padded = np.pad(volume, [(reach, reach), (0, 0), (0, 0), (0, 0)], mode="reflect")
    assert len(slabs) == 5
    window = (slice(1, 3), slice(2, 6))
    for index in range(5):
        expected = padded[index : index + 2 * reach + 1].reshape(-1, 4, 6)
        np.testing.assert_array_equal(slabs.read(index), expected)
        np.testing.assert_array_equal(slabs.read(index, window), expected[:, 1:3, 2:6])


def test_slabs_do_not_cross_from_one_folder_to_the_next(tmp_path, volume):
    for name, part in (("a", volume[:2]), ("b", volume[2:])):
        write(tmp_path / name, part)
    slabs = SlabStack(ImageStack(f"{tmp_path}/*/*.tif"), 1)
    expected = [volume[[1, 0, 1]], volume[[0, 1, 0]], volume[[3, 2, 3]]]
    for index, slices in enumerate(expected):
        np.testing.assert_array_equal(slabs.read(index), slices.reshape(-1, 4, 6))


def test_a_file_of_slices_is_a_volume(tmp_path, volume):
    for name, part in (("a", volume[:3, 0]), ("b", volume[3:, 0])):
        tifffile.imwrite(tmp_path / f"{name}.tif", part, photometric="minisblack")
    slabs = SlabStack(ImageStack(tmp_path), 1)
    assert len(slabs) == 5
    for index, slices in enumerate(([1, 0, 1], [0, 1, 2], [1, 2, 1], [4, 3, 4], [3, 4, 3])):
        np.testing.assert_array_equal(slabs.read(index), volume[slices, 0])


def write_named(folder, volume, names):
    folder.mkdir()
    for image, name in zip(volume, names, strict=True):
        write_channels(folder / name, image)
    return [folder / name for name in names]


@pytest.mark.parametrize("names", [
    [f"{number}.tif" for number in range(8, 13)],
    [f"scan2_{number:04}.tif" for number in range(5)],
    [f"z{10 * number}_raw.tif" for number in range(5)],
    [f"at_{number}-{number * 7}.tif" for number in range(5)],
    [f"rec_{number / 2}.tif" for number in range(5)],
    [f"z{number}_bin2.tif" for number in range(-2, 3)],
    [f"{letter}.tif" for letter in "abcde"],
    [f"scan.{8 + number}" for number in range(5)],
])  # fmt: skip
@pytest.mark.parametrize("listed", [[2], [0], [4], [1, 3], [4, 1, 0], range(5)])
def test_neighbours_come_from_the_folder_wherever_a_slice_is_listed(
    tmp_path, volume, names, listed, caplog
):
    paths = write_named(tmp_path / "a", volume, names)
    write_channels(tmp_path / "a" / "other_1_scan.tif", volume[0] + 9)
    (tmp_path / "a" / "notes_0001.txt").write_text("not a slice")
    padded = np.pad(volume, [(2, 2), (0, 0), (0, 0), (0, 0)], mode="reflect")
    slabs = SlabStack(ImageStack([paths[number] for number in listed]), 2)
    assert len(slabs) == len(listed)
    for index, number in enumerate(listed):
        assert slabs.name(index) == str(paths[number])
        expected = padded[number : number + 5].reshape(-1, 4, 6)
        np.testing.assert_array_equal(slabs.read(index), expected)
    assert len(caplog.records) == (names[0] == "a.tif")  # letters are no numbers, and that is told


def test_neighbours_are_kept_in_memory_with_the_rest(tmp_path, volume):
    paths = write_named(tmp_path / "a", volume, [f"{number}.tif" for number in range(5)])
    stack = ImageStack(paths[2:3])
    stack.keep_in_memory()
    np.testing.assert_array_equal(SlabStack(stack, 2).read(0), volume.reshape(10, 4, 6))


def test_scans_in_one_folder_are_volumes_of_their_own(tmp_path, volume):
    names = ["scan1_1.tif", "scan1_2.tif", "scan1_3.tif", "scan2_1.tif", "scan2_2.tif"]
    slabs = SlabStack(ImageStack(write_named(tmp_path / "a", volume, names)), 1)
    for index, slices in enumerate(([1, 0, 1], [0, 1, 2], [1, 2, 1], [4, 3, 4], [3, 4, 3])):
        np.testing.assert_array_equal(slabs.read(index), volume[slices].reshape(-1, 4, 6))


@pytest.mark.parametrize("end", ["", "_bin2"])
def test_a_number_that_is_missing_is_named_once(tmp_path, volume, caplog, end):
    names = [f"s_{number:03}{end}.tif" for number in (1, 2, 4, 5, 8)]
    paths = write_named(tmp_path / "a", volume, names)
    SlabStack(ImageStack(paths[1:2]), 1).read(0)
    (record,) = caplog.records
    assert record.message.startswith(
        f"{paths[1]}: the next slice is {names[2]}: number 3 is missing (the first of 2 gaps). "
    )


@pytest.mark.parametrize("others", [[], ["s_1.tif", "s_2.tif"]])
def test_a_single_slice_without_a_number_is_its_own_neighbour(tmp_path, volume, others, caplog):
    paths = write_named(tmp_path / "a", volume[: 1 + len(others)], ["flat.tif", *others])
    slab = SlabStack(ImageStack(paths[:1]), 1).read(0)
    np.testing.assert_array_equal(slab, volume[[0, 0, 0]].reshape(-1, 4, 6))
    (record,) = caplog.records
    assert "is in a volume of 1 slice, fewer than the 3 of a slab" in record.getMessage()


def test_names_that_may_be_meant_otherwise_are_told_of(tmp_path, volume, caplog):
    paths = write_named(tmp_path / "a", volume[:4], [f"{k}.tif" for k in (0.0, 0.3, 1.5, 2.0)])
    SlabStack(ImageStack(paths), 1).read(0)
    assert "0.0.tif: in names such as 0.0.tif and 2.0.tif, a sign or a point may" in caplog.text


def test_slices_without_numbers_are_in_alphabetical_order_and_that_is_told(
    tmp_path, volume, caplog
):
    paths = write_named(tmp_path / "a", volume[:3], ["q.tif", "a.tif", "m.tif"])
    slab = SlabStack(ImageStack(paths[2:]), 1).read(0)
    np.testing.assert_array_equal(slab, volume[[1, 2, 0]].reshape(-1, 4, 6))
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/a/a.tif: the names of 3 slices have no numbers; slabs")


def test_splits_with_other_slices_around_are_refused(tmp_path, volume):
    first = write_named(tmp_path / "a", volume, [f"{number}.tif" for number in range(5)])
    second = write_named(tmp_path / "b", volume[:4], [f"{number}.tif" for number in range(4)])
    stacks = [ImageStack(paths[1:2]) for paths in (first, second)]
    with pytest.raises(InputError, match="the same slice of two splits, but there are 5 and 4"):
        SlabStack(MeanStack(stacks), 1)


def test_slices_of_one_slab_need_one_shape(tmp_path, volume):
    folder = write(tmp_path / "a", volume)
    write_channels(folder / "3.tif", volume[3, :, :3])
    dataset = ImageDataset(folder, folder, slab=1)
    assert len(dataset.sample(1).input) == 6
    with pytest.raises(InputError) as error:
        dataset.sample(2)
    assert error.value.message == (
        f"{folder}/2.tif and {folder}/3.tif cannot be in one slab: their shapes are (2, 4, 6) and "
        "(2, 3, 6); set data.slab: 0, or keep each volume in its own folder or file"
    )


def test_only_inputs_have_neighbours(tmp_path, volume):
    folder = write(tmp_path / "a", volume)
    sample = ImageDataset(folder, folder, slab=2).sample(2)
    np.testing.assert_array_equal(sample.input, volume.reshape(10, 4, 6))
    np.testing.assert_array_equal(sample.target, volume[2])
    central = ImageDataset(folder, folder, slab=2).sample(2, central_only=True)
    np.testing.assert_array_equal(central.input, volume[2])
    np.testing.assert_array_equal(central_slice(sample.input, 2), volume[2])

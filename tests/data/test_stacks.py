"""Stacks of images on disk."""

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from msdtool import ImageStack, InputError
from msdtool.data.stacks import to_float

from ..helpers import write_image

RNG = np.random.default_rng(0)


write = write_image


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float16", "float64", "bool"])
def test_images_are_float32_tensors(tmp_path, dtype):
    array = RNG.integers(0, 2, (3, 5, 4)).astype(dtype)
    write(tmp_path / "a.tif", array)
    image = ImageStack(tmp_path)[0]
    assert image.dtype == torch.float32
    assert image.tolist() == array.astype(float).tolist()


def test_images_come_in_natural_order_whatever_their_sizes(tmp_path):
    for number in (10, 2, 1):
        write(tmp_path / f"{number}.tif", np.full((number, 3), number, np.uint8))
    stack = ImageStack(tmp_path / "*.tif")
    assert len(stack) == 3
    assert [image.shape for image in (stack[0], stack[1], stack[-1])] == [
        (1, 1, 3),
        (1, 2, 3),
        (1, 10, 3),
    ]
    assert [image.unique().tolist() for image in stack] == [[1], [2], [10]]
    with pytest.raises(IndexError):
        stack[3]


def test_colours_are_channels_or_their_mean(tmp_path):
    array = RNG.integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    assert ImageStack(tmp_path)[0].tolist() == np.moveaxis(array, -1, 0).tolist()
    grey = ImageStack(tmp_path, collapse_channels=True)[0]
    np.testing.assert_allclose(grey[0], array.mean(axis=-1), rtol=1e-6)
    assert grey.shape == (1, 6, 5)


def test_the_images_of_a_file_that_is_named_twice(tmp_path):
    for name, depth in (("a", 3), ("b", 2)):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", np.zeros((depth, 6, 5)), photometric="minisblack"
        )
    a, b = tmp_path / "a.tif", tmp_path / "b.tif"
    stack = ImageStack([a, a, b, a])
    assert {place.path.name: found for place, found in stack.files().items()} == {
        "a.tif": range(3),
        "b.tif": range(6, 8),
    }
    ranges = [(0, 3), (3, 6), (6, 8), (8, 11)]
    for first, end in ranges:
        assert [stack.volume(i) for i in range(first, end)] == [range(first, end)] * (end - first)


def test_volumes(tmp_path):
    array = RNG.normal(size=(4, 6, 5)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    assert ImageStack(tmp_path, ndim=3)[0].tolist() == array[np.newaxis].tolist()
    slices = ImageStack(tmp_path, ndim=2)
    assert [image.tolist() for image in slices] == array[:, np.newaxis].tolist()


def test_labels_are_indices(tmp_path):
    write(tmp_path / "a.tif", np.array([[0, 127], [255, 64]], np.uint8))
    stack = ImageStack(tmp_path, labels=[255, 127, 0], ignore=64)
    assert stack[0].dtype == torch.int64
    assert stack[0].tolist() == [[[2, 1], [0, -100]]]
    assert stack.num_labels == 3
    with pytest.raises(RuntimeError, match="no labels"):
        _ = ImageStack(tmp_path).num_labels


def test_a_palette_is_labels_or_colours(tmp_path):
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.new("P", (2, 2))
    image.putdata(indices.ravel().tolist())
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a.png")
    assert ImageStack(tmp_path, labels=3)[0].tolist() == [indices.tolist()]
    assert ImageStack(tmp_path)[0][0].tolist() == [[0, 255], [0, 255]]


def test_files_are_read_when_they_are_asked_for(tmp_path):
    write(tmp_path / "a.tif", np.zeros((2, 2), np.uint8))
    (tmp_path / "b.tif").write_text("not an image")
    stack = ImageStack(tmp_path)
    assert stack[0].shape == (1, 2, 2)
    with pytest.raises(InputError, match=r"b\.tif"):
        stack[1]
    write(tmp_path / "a.tif", np.ones((3, 3), np.uint8))
    assert stack[0].shape == (1, 3, 3)


def test_the_cache_reads_every_file_once(tmp_path):
    write(tmp_path / "a.tif", np.full((2, 2), 5, np.uint8))
    stack = ImageStack(tmp_path)
    stack.keep_in_memory()
    (tmp_path / "a.tif").unlink()
    assert stack[0].tolist() == [[[5, 5], [5, 5]]]
    assert stack[-1] is stack[0]


def test_the_cache_finds_bad_files_at_once(tmp_path):
    (tmp_path / "a.tif").write_text("not an image")
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as an image"):
        ImageStack(tmp_path).keep_in_memory()


def test_values_beyond_float32_become_infinite():
    """They are refused where values are checked, with the name of the file."""
    assert to_float(np.array([[[1e300, -1e300, 1.0]]])).tolist() == [[[np.inf, -np.inf, 1.0]]]


def test_channels_are_averaged_in_float64():
    image = np.full((3, 1, 1), 65000, np.uint16)
    assert to_float(image, collapse_channels=True).item() == 65000
    image = np.full((3, 1, 1), 60000, np.float16)
    assert to_float(image, collapse_channels=True).item() == 60000


@pytest.mark.parametrize("channels", [2, 4])
def test_what_is_averaged_or_a_label_comes_without_its_alpha_channel(tmp_path, channels):
    grey = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    image = np.stack([grey] * (channels - 1) + [np.full_like(grey, 255)], axis=-1)
    iio.imwrite(tmp_path / "a.png", image)
    path = tmp_path / "a.png"
    assert ImageStack(path)[0].shape == (channels, 2, 2)
    for stack in (ImageStack(path, collapse_channels=True), ImageStack(path, labels=3)):
        np.testing.assert_array_equal(stack[0], grey[np.newaxis])

"""Volumes that are larger than the memory, and many files: read in other processes."""

import pickle

import h5py
import numpy as np
import pytest
import tifffile
from torch.utils.data import DataLoader

from msdtool import ImageDataset, ImageStack
from msdtool.data import Source
from msdtool.data.readers import MAX_OPEN, read_image
from msdtool.data.specifiers import Location
from tests import forked

from . import writing
from .writing import zarr

SHAPE = (2500, 2000, 2000)  # 20 GB of uint16


def growth_of_reading(place):
    """By how many bytes reading slices and blocks makes this process grow, at most."""
    before = forked.memory("VmRSS")
    for index in (0, 1, 1249, 2498, 2499):
        assert read_image(place, index=index).shape == (1, 2000, 2000)
    for start in range(0, 2500, 250):
        window = (slice(start, start + 8), slice(0, 2000), slice(0, 2000))
        part = read_image(place, 3, window=window)
        assert part.shape == (1, 8, 2000, 2000)
    assert not part.any()
    return forked.memory("VmHWM") - before


def sparse_raw(path):
    with path.open("wb") as file:
        file.truncate(int(np.prod(SHAPE)) * 2)


def sparse_npy(path):
    np.lib.format.open_memmap(path, "w+", "uint16", SHAPE)


def sparse_tiff(path):
    tifffile.memmap(path, shape=SHAPE, dtype="uint16", bigtiff=True, photometric="minisblack")


def empty_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", SHAPE, "uint16", chunks=(1, 500, 500), fillvalue=0)


def empty_zarr(path):
    zarr.create_array(path, shape=SHAPE, dtype="uint16", chunks=(1, 500, 500), fill_value=0)


@pytest.mark.parametrize(
    ("make", "name", "inner"),
    [
        (sparse_raw, "a.raw", ""),
        (sparse_npy, "a.npy", ""),
        (sparse_tiff, "a.tif", ""),
        (empty_hdf5, "a.h5", "data"),
        (empty_zarr, "a.zarr", ""),
    ],
    ids=["raw", "npy", "tiff", "hdf5", "zarr"],
)
def test_a_volume_of_20_gb_is_read_in_less_than_1_gb(tmp_path, make, name, inner):
    make(tmp_path / name)
    layout = {"shape": SHAPE, "dtype": "uint16"} if make is sparse_raw else {}
    place = Location(tmp_path / name, inner, axes="ZYX", **layout)
    assert forked.call(growth_of_reading, place) < 400 * 2**20


@pytest.mark.parametrize("kind", ["zlib_tiff", "hdf5", "zarr3", "npy"])
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_open_the_files_themselves(tmp_path, kind, workers):
    volume = np.random.default_rng(0).normal(size=(6, 16, 16)).astype(np.float32)
    suffix = {"zlib_tiff": ".tif", "hdf5": ".h5", "zarr3": ".zarr", "npy": ".npy"}[kind]
    path = tmp_path / f"a{suffix}"
    getattr(writing, kind)(path, volume, "ZYX")
    dataset = ImageDataset(Source(path), Source(path))
    dataset[3]  # the main process has it open
    again = pickle.loads(pickle.dumps(dataset))
    loader = DataLoader(again, batch_size=2, num_workers=workers)
    images = np.concatenate([input.numpy() for input, _ in loader])
    np.testing.assert_array_equal(images[:, 0], volume)


def test_a_volume_that_was_replaced_is_read_anew(tmp_path):
    for value in (1, 2):
        np.save(tmp_path / "a.npy", np.full((3, 4, 5 + value), value))
        assert ImageStack(tmp_path / "a.npy")[1].unique().tolist() == [value]


def test_more_volumes_than_may_be_open(tmp_path):
    for number in range(MAX_OPEN + 3):
        writing.hdf5(tmp_path / f"{number}.h5", np.full((2, 4, 5), number), "ZYX")
    stack = ImageStack(tmp_path)
    found = [int(image[0, 0, 0]) for image in [*stack, *stack]]
    assert found == sorted([*range(MAX_OPEN + 3)] * 2) * 2

"""Zarr stores of groups: the array that is meant, or an error that names what there is."""

import os
import shutil

import numpy as np
import pytest

from msdtool import ImageStack
from msdtool.errors import InputError

from .writing import ome_zarr, zarr

VALUES = np.random.default_rng(0).integers(1, 255, (4, 6, 7), dtype=np.uint8)


def array(group, name):
    group.create_array(name, shape=VALUES.shape, dtype=VALUES.dtype)[:] = VALUES


def test_an_array_in_groups_is_found(tmp_path):
    array(zarr.open_group(tmp_path / "a.zarr", mode="w"), "volumes/raw")
    assert len(ImageStack(str(tmp_path / "a.zarr"))) == 4


def test_arrays_in_groups_are_named(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for name in ("volumes/raw", "volumes/labels"):
        array(root, name)
    with pytest.raises(
        InputError,
        match=r"holds 2 arrays: volumes/labels \(4 x 6 x 7\), volumes/raw \(4 x 6 x 7\); select",
    ):
        ImageStack(str(tmp_path / "a.zarr"))


def converted(path, count):
    """Images as bioformats2raw writes them."""
    root = zarr.open_group(path, mode="w")
    root.attrs["bioformats2raw.layout"] = 3
    root.create_group("OME")
    for number in range(count):
        ome_zarr(f"{path}/{number}", VALUES, "zyx")
    return path


def test_the_only_image_of_a_converted_file(tmp_path):
    stack = ImageStack(str(converted(tmp_path / "a.zarr", 1)))
    np.testing.assert_array_equal(stack[1][0], VALUES[1])


def test_several_images_of_a_converted_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"holds 2 arrays: 0, 1; select one, such as a\.zarr::0"):
        ImageStack(str(converted(tmp_path / "a.zarr", 2)))


@pytest.mark.parametrize("place", ["p.zarr", "p.zarr::A/1"])
def test_an_image_of_a_plate_is_named(tmp_path, place):
    root = zarr.open_group(tmp_path / "p.zarr", mode="w")
    root.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    root.create_group("A/1").attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}]}}
    ome_zarr(f"{tmp_path}/p.zarr/A/1/0", VALUES, "zyx")
    with pytest.raises(InputError, match=r"such as p\.zarr::A/1/0"):
        ImageStack(f"{tmp_path}/{place}")
    assert len(ImageStack(f"{tmp_path}/p.zarr::A/1/0")) == 4


@pytest.mark.parametrize("name", ["zarr.json", "c/0/0/0"])
def test_a_pipe_in_a_store_is_not_waited_for(tmp_path, name):
    path = tmp_path / "a.zarr"
    zarr.open_array(path, mode="w", shape=VALUES.shape, dtype=VALUES.dtype)[:] = VALUES
    (path / name).unlink()
    os.mkfifo(path / name)
    message = "there is no zarr array" if name == "zarr.json" else "it is a pipe; save what it"
    with pytest.raises(InputError, match=message):
        ImageStack(str(path))[0]


@pytest.mark.parametrize("zarr_format, chunk", [(3, "c/0/0/0"), (3, "c/0"), (2, "0.0.0")])
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_chunk_that_is_not_there_is_not_taken_for_the_fill_value(
    tmp_path, zarr_format, chunk, kind
):
    """As git-annex and datalad leave links to chunks that are not fetched."""
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES, zarr_format=zarr_format)
    place = path / chunk
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    if kind == "link":
        place.symlink_to("/no/such/file")
    else:
        (path / "c/0/0/0" if chunk == "c/0" else place).mkdir(parents=True)
    message = "is a link to /no/such/file, which is not there" if kind == "link" else "is a folder"
    with pytest.raises(InputError, match=message):
        ImageStack(str(path))[0]


def test_a_chunk_that_was_never_written_has_the_fill_value(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(2, 4, 6), chunks=(1, 4, 6), dtype="u1", fill_value=7)
    assert (ImageStack(str(path))[1] == 7).all()

"""Files of volumes that cannot be used, and what is said about them."""

import sys

import h5py
import numpy as np
import pytest
import tifffile

from msdtool import ImageStack, InputError
from msdtool.data import Source
from msdtool.data.readers import read_image
from msdtool.data.specifiers import Location

from .writing import zarr


def refusal(location, ndim=3, index=None):
    with pytest.raises(InputError) as error:
        read_image(location, ndim, index=index)
    assert error.value.message.startswith(f"{location}")
    return error.value.message.removeprefix(f"{location}").removeprefix(": ")


def test_an_hdf5_file_of_several_datasets_needs_a_path(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["entry/data"] = np.zeros((2, 3, 4))
        file["dark"] = np.zeros((3, 4))
        file["name"] = "text"
        file["angles"] = np.zeros(5)
    assert refusal(path) == (
        "holds 2 arrays: /dark (3 x 4), /entry/data (2 x 3 x 4); select one, such as a.h5::/dark"
    )
    assert refusal(Location(path, "/entry")) == ("the file is a group; it holds /dark, /entry/data")
    assert refusal(Location(path, "/data")) == (
        "the file has no dataset of that name; it holds /dark, /entry/data"
    )
    assert refusal(Location(path, "/name")).startswith("pixels of type object are not real")
    assert read_image(Location(path, "/dark"), 2).shape == (1, 3, 4)


def test_a_file_that_is_no_hdf5(tmp_path):
    (tmp_path / "a.h5").write_text("not an image\n" * 50)
    assert "cannot be read as an image: " in refusal(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(b"")
    assert refusal(tmp_path / "a.h5") == "cannot be read as an image: the file is empty"
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    assert refusal(tmp_path / "a.h5") == "holds no array of numbers with two or more dimensions"


def test_a_zarr_group_of_several_arrays_needs_a_path(tmp_path):
    path = tmp_path / "a.zarr"
    group = zarr.create_group(path)
    for name in ("b", "a"):
        group.create_array(name, shape=(2, 3, 4), dtype="uint8")
    assert refusal(path).startswith("holds 2 arrays: ")
    assert read_image(Location(path, "a"), 3).shape == (1, 2, 3, 4)
    assert read_image(path / "b", 3).shape == (1, 2, 3, 4)
    assert refusal(Location(path, "c/d")) == "there is no 'c'; the group holds a, b"
    (tmp_path / "b.zarr").mkdir()
    assert refusal(tmp_path / "b.zarr").startswith("cannot be read as an image: ")


@pytest.mark.parametrize(("name", "package"), [("a.h5", "h5py"), ("a.zarr", "zarr")])
def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    tmp_path, monkeypatch, name, package
):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).mkdir() if name.endswith("zarr") else (tmp_path / name).touch()
    with pytest.raises(InputError) as error:
        ImageStack(tmp_path / name)
    assert error.value.message == (
        f"{tmp_path / name}: needs the package {package}, which is not installed; "
        "install it with: pip install 'msdtool[volumes]'"
    )


def test_raw_files_need_a_shape_that_fits(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(100))
    assert refusal(path) == (
        "a raw file does not record what it contains; give its shape and dtype: "
        "{path: a.raw, shape: [100, 512, 512], dtype: uint16}"
    )
    assert refusal(Location(path, shape=(5, 5, 5), dtype="uint8")) == (
        "has 100 bytes; shape [5, 5, 5] of dtype uint8 needs 125; check shape and dtype, and that "
        "the file has no header"
    )
    found = read_image(Location(path, shape=(2, 5, 5), dtype="uint16"), 3)
    assert found.shape == (1, 2, 5, 5)


def test_numpy_files_that_cannot_be_images(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    assert refusal(tmp_path / "a.npy") == (
        "cannot be read as an image: it contains Python objects, not numbers"
    )
    np.save(tmp_path / "a.npy", np.zeros((3, 4), complex))
    assert refusal(tmp_path / "a.npy") == "pixels of type complex128 are not real numbers"
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-8])
    assert "the file is truncated: it has 216 bytes, its pixels need 224" in refusal(
        tmp_path / "a.npy", 2
    )
    (tmp_path / "a.npy").write_text("not an image")
    assert refusal(tmp_path / "a.npy").startswith("cannot be read as an image: ")


def test_two_colons_behind_a_file_without_arrays(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4)))
    assert "names an array in an HDF5 file" in refusal(Location(tmp_path / "a.tif", "data"))


def test_axes_that_do_not_fit_are_named_with_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 6), np.uint8))
    with pytest.raises(InputError) as error:
        ImageStack(Source(tmp_path / "a.tif", axes="ZYX"))
    assert error.value.message == (
        f"{tmp_path}/a.tif: axes: ZYX names 3 axes, the array has 2, shape (5, 6); "
        "name each of them"
    )


def test_a_file_of_several_among_files_of_one(tmp_path):
    for name, shape in (("a1.tif", (5, 6)), ("a2.tif", (7, 5, 6))):
        tifffile.imwrite(tmp_path / name, np.zeros(shape, np.uint8))
    stack = ImageStack(tmp_path)
    assert len(stack) == 2
    with pytest.raises(InputError, match=r"a2\.tif: holds 7 images \(axes ZYX, shape \(7, 5, 6\)"):
        stack[1]

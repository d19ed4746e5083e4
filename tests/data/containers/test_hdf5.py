"""HDF5: links and virtual datasets lead to the data, or to an error that names what is missing."""

import h5py
import numpy as np
import pytest

from msdtool import ImageStack
from msdtool.data.readers import notes
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

VALUES = np.random.default_rng(0).integers(1, 255, (4, 6, 7), dtype=np.uint8)


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return path


def link(path, name, target, inner="/data"):
    with h5py.File(path, "a") as file:
        file[name] = h5py.ExternalLink(target, inner)


def test_the_only_dataset_may_lie_behind_a_link(tmp_path):
    write(tmp_path / "part.h5", data=VALUES)
    link(tmp_path / "master.h5", "entry/data_1", "part.h5")
    stack = ImageStack(str(tmp_path / "master.h5"))
    np.testing.assert_array_equal(stack[3][0], VALUES[3])


def test_a_linked_group_is_searched(tmp_path):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["deep/data"] = VALUES
        file["deep/itself"] = h5py.SoftLink("/deep")
    link(tmp_path / "master.h5", "entry", "part.h5", "/")
    assert len(ImageStack(str(tmp_path / "master.h5"))) == 4


def test_a_linked_dataset_counts_beside_others(tmp_path):
    write(tmp_path / "part.h5", data=VALUES)
    master = write(tmp_path / "master.h5", mask=np.zeros((6, 7), np.uint8))
    link(master, "images", "part.h5")
    with pytest.raises(
        InputError, match=r"holds 2 arrays: /images \(4 x 6 x 7\), /mask \(6 x 7\); select one"
    ):
        ImageStack(str(master))


@pytest.mark.parametrize("inner", ["", "::images", "::/images"])
def test_a_link_to_a_missing_file_is_named(tmp_path, inner):
    link(tmp_path / "master.h5", "images", "part.h5")
    with pytest.raises(InputError, match=r"images: links to /data in the file part\.h5, which"):
        ImageStack(f"{tmp_path}/master.h5{inner}")


def test_another_dataset_does_not_take_the_place_of_a_missing_one(tmp_path):
    master = write(tmp_path / "master.h5", mask=np.zeros((6, 7), np.uint8))
    link(master, "images", "part.h5")
    with pytest.raises(InputError, match=r"holds 2 arrays: /mask \(6 x 7\), /images;"):
        ImageStack(str(master))
    assert len(ImageStack(f"{master}::mask")) == 1


def test_a_dataset_with_several_names_is_one(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = VALUES
        file["soft"] = h5py.SoftLink("/entry/data")
        file["hard"] = file["entry/data"]
        file["nowhere"] = h5py.SoftLink("/none")
    assert len(ImageStack(str(tmp_path / "a.h5"))) == 4
    assert len(ImageStack(f"{tmp_path}/a.h5::soft")) == 4


def test_what_attributes_say_about_values(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("d", data=VALUES)
        data.attrs["_FillValue"] = np.uint8(255)
        data.attrs["scale_factor"] = np.array([0.5])
    assert notes(Location(tmp_path / "a.h5")) == (
        "the value 255 stands for missing ones (_FillValue)",
        "values are read as they are stored, the file says scale_factor 0.5",
    )


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["here"], file["there"] = h5py.SoftLink("/there"), h5py.SoftLink("/here")
        file["lost"] = h5py.SoftLink("/nothing")
    for inner, target in (("/here", "/there"), ("/there", "/here"), ("/lost", "/nothing")):
        with pytest.raises(InputError) as error:
            ImageStack(f"{tmp_path}/a.h5::{inner}")
        assert error.value.message == (
            f"{tmp_path}/a.h5::{inner}: links to {target}, which is not there or leads back to "
            "the link"
        )


def test_links_that_lead_nowhere_do_not_count_beside_an_image(tmp_path):
    write(tmp_path / "a.h5", image=VALUES)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["loop"], file["lost"] = h5py.SoftLink("/loop"), h5py.SoftLink("/nothing")
    assert np.array_equal(
        ImageStack(tmp_path / "a.h5")[0][0], VALUES.reshape(-1, *VALUES.shape[-2:])[0]
    )


def test_more_labels_than_dimensions_name_none(tmp_path):
    """HDF5's function for labels would write behind its own memory."""
    write(tmp_path / "a.h5", image=VALUES)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        names = ["x", "y"] * 100
        file["image"].attrs.create("DIMENSION_LABELS", names, dtype=h5py.string_dtype())
    stack = ImageStack(tmp_path / "a.h5")
    assert stack.space(len(stack) - 1) == VALUES.shape[-2:]

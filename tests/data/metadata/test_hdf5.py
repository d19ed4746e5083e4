"""HDF5: attributes, dimension scales and pixel sizes."""

import h5py
import numpy as np
import pytest

from msdtool.data.metadata import Description, Metadata, Packing, Provenance, Step, hdf5

STEPS = {"Z": Step(2.0, "µm", 10.0), "Y": Step(0.5, "µm"), "X": Step(0.25, "µm")}


@pytest.fixture
def dataset(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        yield file.create_dataset("scan/data", data=np.zeros((3, 4, 5), np.float32))


def attach(dataset, axis, positions, units="mm"):
    scale = dataset.parent.create_dataset(f"axis_{axis}", data=positions)
    scale.attrs["units"] = units
    scale.make_scale()
    dataset.dims[axis].attach_scale(scale)


def test_regular_positions_are_a_step(dataset):
    attach(dataset, 0, [5.0, 7.0, 9.0])
    attach(dataset, 1, [0.0, 1.0, 2.0, 4.0])
    attach(dataset, 2, np.array(["a"] * 5, "S1"))
    assert hdf5.read(dataset, "ZYX").steps == {"Z": Step(2.0, "mm", 5.0)}


@pytest.mark.parametrize("length", [2, 5, 2**40])
def test_positions_of_other_axes_are_not_read(dataset, length):
    scale = dataset.parent.create_dataset("z", (length,), "f8", chunks=(2,), fillvalue=1)
    scale.make_scale()
    dataset.dims[0].attach_scale(scale)
    assert hdf5.read(dataset, "ZYX").steps == {}


@pytest.mark.parametrize("scales", [3, [1, 2, 3], ["a", "b", "c"], [], np.zeros((3, 2))])
def test_damaged_references_to_positions_say_nothing(dataset, scales):
    dataset.attrs["DIMENSION_LIST"] = scales
    assert hdf5.read(dataset, "ZYX") == Metadata()


def test_references_that_lead_elsewhere_say_nothing(dataset):
    kind = h5py.vlen_dtype(h5py.ref_dtype)
    attach(dataset, 0, [5.0, 7.0, 9.0])
    found = np.empty(3, object)
    found[:] = [
        np.array(places, h5py.ref_dtype)
        for places in ([h5py.Reference()], [dataset.parent.ref], [dataset.parent["axis_0"].ref])
    ]
    dataset.attrs.create("DIMENSION_LIST", found, dtype=kind)
    assert hdf5.read(dataset, "ZYX").steps == {}


def test_attributes_that_are_data_of_their_own_are_not_handed_on(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        dataset = file.create_dataset("data", data=np.zeros((3, 4, 5)))
        dataset.attrs["values"] = np.zeros(hdf5.MAX_VALUES + 1)
        dataset.attrs["text"] = "x" * (hdf5.MAX_BYTES + 1)
        dataset.attrs["padded"] = np.array([b"x" * 1000] * 1000)
        dataset.attrs["empty"] = np.zeros(0)
        for number in range(300):
            dataset.attrs[f"a{number:03}"] = number
        found = hdf5.read(dataset, "ZYX").attributes
    assert list(found) == [f"a{number:03}" for number in range(hdf5.MAX_ATTRIBUTES)]


@pytest.mark.parametrize("value", [[], "wide", float("nan")])
def test_a_scale_factor_that_is_no_number_counts_as_none(value):
    attributes = {"scale_factor": value, "add_offset": value}
    found = hdf5.packed(attributes, Packing(2.0, 1.0))
    assert found == {"scale_factor": 2.0, "add_offset": 1.0}


@pytest.mark.parametrize("sizes", [(2.0, 0.5, 0.25), np.array([2.0, 0.5, 0.25], np.float32)])
def test_element_sizes_are_in_the_order_zyx(dataset, sizes):
    dataset.attrs["element_size_um"] = sizes
    expected = {"Z": Step(2.0, "µm"), "Y": Step(0.5, "µm"), "X": Step(0.25, "µm")}
    assert hdf5.read(dataset, "ZYX").steps == expected
    assert hdf5.read(dataset, "CYX").steps == {"Y": Step(0.5, "µm"), "X": Step(0.25, "µm")}


def test_attributes_are_kept_unless_they_are_about_the_file_or_its_missing_values(dataset):
    attach(dataset, 0, [5.0, 7.0, 9.0])
    dataset.attrs["units"] = "counts"
    dataset.attrs["exposure"] = 0.5
    dataset.attrs["positions"] = [1, 2, 3]
    dataset.attrs["_FillValue"] = -1.0
    dataset.attrs["other"] = dataset.ref
    dataset.attrs["long"] = np.zeros(2000)
    kept = hdf5.read(dataset, "ZYX").attributes
    assert list(kept) == ["exposure", "positions", "units"]
    assert (kept["units"], kept["exposure"], kept["positions"].tolist()) == (
        "counts",
        0.5,
        [1, 2, 3],
    )


def test_what_is_written_is_read_again(dataset):
    made = Provenance("msdtool 1", "abc", "msdtool predict MODEL a.h5")
    says = Metadata(steps=STEPS, channels=("a", "b"), attributes={"units": "counts"})
    hdf5.write(dataset, "ZYX", Description(says, made))
    found = hdf5.read(dataset, "ZYX")
    assert found.steps == STEPS
    assert found.attributes["units"] == "counts"
    assert found.attributes["msdtool_model"] == "abc"


def test_other_programs_find_sizes_positions_and_the_signal(dataset):
    hdf5.write(dataset, "ZYX", Description(Metadata(steps=STEPS)))
    assert dataset.attrs["element_size_um"].tolist() == [2.0, 0.5, 0.25]
    assert [dimension.label for dimension in dataset.dims] == ["z", "y", "x"]
    assert dataset.dims[0][0][()].tolist() == [10.0, 12.0, 14.0]
    group = dataset.parent
    assert (group.attrs["NX_class"], group.attrs["signal"]) == ("NXdata", "data")
    assert list(group.attrs["axes"]) == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("attributes", "scale_factor", "add_offset"),
    [({}, 0.5, 3.0), ({"scale_factor": 10.0, "add_offset": 1.0}, 5.0, 31.0)],
)
def test_packing_comes_on_top_of_that_of_the_input(attributes, scale_factor, add_offset):
    found = hdf5.packed(attributes, Packing(0.5, 3.0))
    assert (found["scale_factor"], found["add_offset"]) == (scale_factor, add_offset)
    stored, values = 7, lambda sf, ao: 7 * sf + ao  # the CF conventions, section 8.1
    inner = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    assert values(scale_factor, add_offset) == (0.5 * stored + 3.0) * inner[0] + inner[1]


def test_unpacked_values_keep_the_attributes_of_the_input():
    assert hdf5.packed({"scale_factor": 10.0}, None) == {"scale_factor": 10.0}

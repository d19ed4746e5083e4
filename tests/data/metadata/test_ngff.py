"""OME-Zarr: what groups say about their arrays, by hand-written attributes."""

import numpy as np
import pytest

from msdtool.data.metadata import Metadata, Step, ngff
from msdtool.data.readers import metadata
from msdtool.data.specifiers import Location

zarr = pytest.importorskip("zarr", "3")

AXES = [
    {"name": "c", "type": "channel"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


def image(scale, translation=None, outer=()):
    transformations = [{"type": "scale", "scale": scale}]
    if translation is not None:
        transformations.append({"type": "translation", "translation": translation})
    datasets = [{"path": "full", "coordinateTransformations": transformations}]
    found = {"axes": AXES, "datasets": datasets}
    return found | ({"coordinateTransformations": list(outer)} if outer else {})


def write(path, multiscales, channels=(), version="0.5"):
    group = zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    group.create_array("full", shape=(2, 6, 7), dtype="uint8")
    content = {"multiscales": [multiscales]}
    if channels:
        content["omero"] = {"channels": [{"label": label} for label in channels]}
    group.attrs.update({"ome": {"version": "0.5", **content}} if version == "0.5" else content)
    return Location(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("inner", ["", "full"])
def test_pixel_size_position_and_channels(tmp_path, version, inner):
    place = write(tmp_path / "a.zarr", image([1, 0.5, 0.25], [0, 3, 4]), ("red", "green"), version)
    found = metadata(Location(place.path, inner), 2)
    assert found.convention == "ome"
    assert found.steps == {"Y": Step(0.5, "µm", 3.0), "X": Step(0.25, "µm", 4.0)}
    assert found.channels == ("red", "green")


def test_transformations_of_all_levels_come_last(tmp_path):
    outer = [
        {"type": "scale", "scale": [1, 10, 10]},
        {"type": "translation", "translation": [0, 1, 2]},
    ]
    place = write(tmp_path / "a.zarr", image([1, 0.5, 0.25], [0, 3, 4], outer))
    # x -> 10 * (0.25 x + 4) + 2
    assert metadata(place, 2).steps == {"Y": Step(5.0, "µm", 31.0), "X": Step(2.5, "µm", 42.0)}


@pytest.mark.parametrize("scale", [[1, 2], "no", None, [0, 0, 0], [1, "a", "b"]])
def test_strange_transformations_say_nothing(tmp_path, scale):
    steps = metadata(write(tmp_path / "a.zarr", image(scale)), 2).steps
    assert {letter: step.size for letter, step in steps.items()} in ({}, {"Y": 1.0, "X": 1.0})


def test_the_description_says_where_the_pixels_of_each_level_are():
    says = Metadata(steps={"Y": Step(2.0, "µm"), "X": Step(0.5, "µm", 10.0)}, channels=("a",))
    content = ngff.describe("CYX", [(1, 1, 1), (1, 2, 4)], says, "scan")["ome"]
    (found,) = content["multiscales"]
    assert content["version"] == "0.5"
    assert [axis["name"] for axis in found["axes"]] == ["c", "y", "x"]
    assert [axis.get("unit") for axis in found["axes"]] == [None, "micrometer", "micrometer"]
    full, coarse = (one["coordinateTransformations"] for one in found["datasets"])
    assert full[0] == {"type": "scale", "scale": [1.0, 2.0, 0.5]}
    assert full[1] == {"type": "translation", "translation": [0.0, 0.0, 10.0]}
    assert coarse[0]["scale"] == [1.0, 4.0, 2.0]
    # Two pixels at 0 and 2 have their centre at 1; four from 10 to 11.5 at 10.75.
    assert coarse[1]["translation"] == [0.0, 1.0, 10.75]
    assert content["omero"] == {"channels": [{"label": "a"}]}
    assert np.isfinite(coarse[1]["translation"]).all()

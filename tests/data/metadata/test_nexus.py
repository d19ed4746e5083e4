"""NeXus and Data Exchange: which of several datasets is meant."""

import h5py
import numpy as np
import pytest

from msdtool import ImageStack
from msdtool.data.metadata import Step
from msdtool.data.readers import metadata
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

IMAGE = np.random.default_rng(0).integers(1, 255, (4, 6, 7), dtype=np.uint8)
FLAT = np.zeros((6, 7), np.uint8)


def write(path, datasets, attributes):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value
        for (group, name), value in attributes.items():
            file[group].attrs[name] = value
    return str(path)


DEFAULT = {
    ("/", "default"): "entry",
    ("/entry", "default"): "plot",
    ("/entry/plot", "signal"): "image",
}


@pytest.mark.parametrize("kind", [str, np.bytes_])
def test_a_chain_of_defaults_leads_to_the_signal(tmp_path, kind):
    datasets = {"entry/plot/image": IMAGE, "entry/flat": FLAT}
    attributes = {place: kind(name) for place, name in DEFAULT.items()}
    stack = ImageStack(write(tmp_path / "a.nxs", datasets, attributes))
    np.testing.assert_array_equal(stack[2][0], IMAGE[2])


def test_the_signal_may_be_a_link_to_another_file(tmp_path):
    write(tmp_path / "part.h5", {"data": IMAGE}, {})
    datasets = {"entry/plot/image": h5py.ExternalLink("part.h5", "/data"), "entry/flat": FLAT}
    master = write(tmp_path / "a.nxs", datasets, DEFAULT)
    assert len(ImageStack(master)) == 4
    datasets["entry/plot/image"] = h5py.ExternalLink("gone.h5", "/data")
    with pytest.raises(InputError, match=r"image: links to /data in the file gone\.h5"):
        ImageStack(write(tmp_path / "b.nxs", datasets, DEFAULT))


@pytest.mark.parametrize("missing", DEFAULT)
def test_a_broken_chain_is_no_reason_to_guess(tmp_path, missing):
    datasets = {"entry/plot/image": IMAGE, "entry/flat": FLAT}
    attributes = {place: name for place, name in DEFAULT.items() if place != missing}
    path = write(tmp_path / "a.nxs", datasets, attributes)
    with pytest.raises(
        InputError, match=r"holds 2 arrays: /entry/flat \(6 x 7\), .* \(4 x 6 x 7\)"
    ):
        ImageStack(path)


def test_a_chain_that_goes_in_circles_ends(tmp_path):
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file["entry/image"], file["entry/flat"] = IMAGE, FLAT
        file["entry/again"] = h5py.SoftLink("/entry")
        file.attrs["default"], file["entry"].attrs["default"] = "entry", "again"
    with pytest.raises(InputError, match="holds 2 arrays"):
        ImageStack(str(tmp_path / "a.nxs"))


def test_white_and_dark_images_are_left_alone(tmp_path):
    datasets = {f"exchange/data{kind}": IMAGE for kind in ("", "_white", "_dark")}
    assert len(ImageStack(write(tmp_path / "a.h5", datasets, {}))) == 4
    with pytest.raises(InputError, match="holds 4 arrays"):
        ImageStack(write(tmp_path / "b.h5", datasets | {"other": IMAGE}, {}))


@pytest.mark.parametrize("axes", [["angle", "y", "x"], "angle:y:x", "[angle,y,x]"])
def test_named_axes_give_the_positions(tmp_path, axes):
    datasets = {
        "entry/image": IMAGE,
        "entry/angle": [0.0, 0.5, 1.0, 1.5],
        "entry/x": 0.1 * np.arange(7) + 3,
    }
    attributes = {("/entry", "axes"): axes, ("/entry/x", "units"): np.bytes_(b"mm")}
    write(tmp_path / "a.nxs", datasets, attributes)
    steps = metadata(Location(tmp_path / "a.nxs"), 2).steps
    assert steps.keys() == {"Z", "X"}
    assert steps["Z"] == Step(0.5)
    assert (steps["X"].unit, steps["X"].start) == ("mm", 3.0)
    assert steps["X"].size == pytest.approx(0.1)


@pytest.mark.parametrize("axes", [3, ["angle"], ["no", "such", "axis"], [1, 2, 3]])
def test_strange_axes_do_not_keep_images_from_being_read(tmp_path, axes):
    write(tmp_path / "a.nxs", {"entry/image": IMAGE}, {("/entry", "axes"): axes})
    assert metadata(Location(tmp_path / "a.nxs"), 2).steps == {}
    assert len(ImageStack(f"{tmp_path}/a.nxs")) == 4

"""CZI as the library of Zeiss writes it."""

import numpy as np
import pytest

from msdtool import ImageStack, InputError
from msdtool.data.metadata import Step
from msdtool.data.readers import arrangement, count_arrays, metadata, read_image
from msdtool.data.specifiers import Location

from .microscopes import write_czi

VALUES = np.random.default_rng(0).integers(0, 250, (2, 3, 12, 16))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_and_slices(tmp_path, dtype):
    write_czi(tmp_path / "a.czi", VALUES.astype(dtype))
    found = arrangement(Location(tmp_path / "a.czi"))
    assert sorted(found.axes) == sorted("CZYX")
    assert found.num_images == 3
    for z in range(3):
        image = read_image(tmp_path / "a.czi", index=z)
        assert image.dtype == dtype
        np.testing.assert_array_equal(image, VALUES[:, z])
    volume = read_image(tmp_path / "a.czi", 3, window=(slice(1, 3), slice(2, 5), slice(4, 9)))
    np.testing.assert_array_equal(volume, VALUES[:, 1:3, 2:5, 4:9])


def test_colours_are_red_green_and_blue(tmp_path):
    values = np.random.default_rng(0).integers(0, 250, (1, 1, 12, 16, 3)).astype(np.uint8)
    write_czi(tmp_path / "a.czi", values)
    assert arrangement(Location(tmp_path / "a.czi")).axes == "YXS"
    np.testing.assert_array_equal(read_image(tmp_path / "a.czi"), np.moveaxis(values[0, 0], -1, 0))


def test_what_it_says(tmp_path):
    write_czi(tmp_path / "a.czi", VALUES.astype(np.uint8))
    found = metadata(Location(tmp_path / "a.czi"))
    sizes = {"X": 0.25, "Y": 0.5, "Z": 2.0}
    assert found.steps == {
        letter: Step(pytest.approx(size), "µm") for letter, size in sizes.items()
    }
    assert found.channels == ("DAPI", "GFP")


def test_a_scene_is_named(tmp_path):
    write_czi(tmp_path / "a.czi", VALUES.astype(np.uint16), scenes=2)
    assert count_arrays(Location(tmp_path / "a.czi")) == 2
    for scene in range(2):
        stack = ImageStack(f"{tmp_path}/a.czi::{scene}")
        assert [image.tolist() for image in stack] == (VALUES + scene).swapaxes(0, 1).tolist()
    with pytest.raises(InputError, match=r"holds 2 arrays: 0 \(12 x 16\), .*such as a.czi::0"):
        read_image(tmp_path / "a.czi")
    with pytest.raises(InputError, match="holds no image 2; it holds 0, 1"):
        read_image(Location(tmp_path / "a.czi", "2"))


def test_a_plane_that_is_missing_is_no_zeros(tmp_path):
    write_czi(tmp_path / "a.czi", VALUES.astype(np.uint16), leave_out=[(1, 2)])
    with pytest.raises(InputError, match="holds 5 of 6 planes; was the acquisition stopped"):
        read_image(tmp_path / "a.czi")

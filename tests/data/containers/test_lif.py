"""LIF, laid out as its reader describes it."""

import numpy as np
import pytest

from msdtool import InputError
from msdtool.data.metadata import Step
from msdtool.data.readers import arrangement, count_arrays, metadata, read_image
from msdtool.data.specifiers import Location

from .microscopes import write_lif

VALUES = np.random.default_rng(0).integers(0, 250, (3, 2, 12, 16))
STEPS = {"X": 2.5e-7, "Y": 2.5e-7, "Z": 2e-6, "T": 0.5}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_and_slices(tmp_path, dtype):
    write_lif(tmp_path / "a.lif", {"one": (VALUES.astype(dtype), "ZCYX", STEPS)})
    assert arrangement(Location(tmp_path / "a.lif")).axes == "ZCYX"
    for z in range(3):
        image = read_image(tmp_path / "a.lif", index=z)
        assert image.dtype == dtype
        np.testing.assert_array_equal(image, VALUES[z])
    volume = read_image(tmp_path / "a.lif", 3, window=(slice(1, 3), slice(2, 5), slice(4, 9)))
    np.testing.assert_array_equal(volume, VALUES[1:3, :, 2:5, 4:9].swapaxes(0, 1))


def test_what_it_says(tmp_path):
    write_lif(tmp_path / "a.lif", {"one": (VALUES.astype(np.uint8), "TZYX", STEPS)})
    sizes = {"X": (0.25, "µm"), "Y": (0.25, "µm"), "Z": (2.0, "µm"), "T": (0.5, "s")}
    assert metadata(Location(tmp_path / "a.lif")).steps == {
        letter: Step(pytest.approx(size), unit) for letter, (size, unit) in sizes.items()
    }


def test_an_image_is_named(tmp_path):
    images = {"one": (VALUES.astype(np.uint8), "ZCYX", STEPS)}
    images["two"] = (VALUES[0, 0].astype(np.uint16), "YX", STEPS)
    write_lif(tmp_path / "a.lif", images)
    assert count_arrays(Location(tmp_path / "a.lif")) == 2
    image = read_image(Location(tmp_path / "a.lif", "two"))
    np.testing.assert_array_equal(image[0], VALUES[0, 0])
    with pytest.raises(InputError, match=r"holds 2 arrays: one \(3 x 2 x 12 x 16\), two"):
        read_image(tmp_path / "a.lif")
    with pytest.raises(InputError, match="holds no image three; it holds one, two"):
        read_image(Location(tmp_path / "a.lif", "three"))


def test_tiles_of_a_mosaic_are_images(tmp_path):
    write_lif(tmp_path / "a.lif", {"one": (VALUES[:, 0].astype(np.uint8), "MYX", STEPS)})
    assert arrangement(Location(tmp_path / "a.lif")).axes == "TYX"
    np.testing.assert_array_equal(read_image(tmp_path / "a.lif", index=2)[0], VALUES[2, 0])


def test_axes_that_are_not_known(tmp_path):
    write_lif(tmp_path / "a.lif", {"one": (VALUES.astype(np.uint8), "MTYX", STEPS)})
    with pytest.raises(InputError, match=r"has axes other than .*: M 3, T 2, Y 12, X 16"):
        read_image(tmp_path / "a.lif")

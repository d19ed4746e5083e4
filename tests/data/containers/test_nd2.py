"""ND2, laid out as its reader describes it."""

import numpy as np
import pytest

from msdtool import InputError
from msdtool.data.metadata import Step
from msdtool.data.readers import arrangement, count_arrays, metadata, read_image
from msdtool.data.specifiers import Location

from .microscopes import POSITIONS, SLICES, TIME, write_nd2

FRAMES = np.random.default_rng(0).integers(0, 250, (6, 12, 16, 2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_times_slices_and_channels(tmp_path, dtype):
    write_nd2(tmp_path / "a.nd2", FRAMES.astype(dtype), {TIME: 2, SLICES: 3})
    found = arrangement(Location(tmp_path / "a.nd2"))
    assert (found.axes, found.shape) == ("TZCYX", (2, 3, 2, 12, 16))
    for number in range(6):
        image = read_image(tmp_path / "a.nd2", index=number)
        assert image.dtype == dtype
        np.testing.assert_array_equal(image, np.moveaxis(FRAMES[number], -1, 0))
    window = (slice(1, 3), slice(2, 5), slice(4, 9))
    volume = read_image(tmp_path / "a.nd2", 3, index=1, window=window)
    np.testing.assert_array_equal(volume, np.moveaxis(FRAMES[4:6, 2:5, 4:9], -1, 0))


def test_a_single_image(tmp_path):
    write_nd2(tmp_path / "a.nd2", FRAMES[:1, ..., :1].astype(np.uint16), {})
    assert arrangement(Location(tmp_path / "a.nd2")).axes == "YX"
    np.testing.assert_array_equal(read_image(tmp_path / "a.nd2")[0], FRAMES[0, ..., 0])


def test_what_it_says(tmp_path):
    write_nd2(tmp_path / "a.nd2", FRAMES.astype(np.uint16), {TIME: 2, SLICES: 3})
    found = metadata(Location(tmp_path / "a.nd2"))
    assert found.channels == ("DAPI", "GFP")
    steps = {"X": Step(0.25, "µm"), "Y": Step(0.25, "µm"), "Z": Step(2.0, "µm")}
    assert found.steps == steps | {"T": Step(0.5, "s")}


def test_a_position_is_named(tmp_path):
    write_nd2(tmp_path / "a.nd2", FRAMES.astype(np.uint16), {POSITIONS: 2, SLICES: 3})
    assert count_arrays(Location(tmp_path / "a.nd2")) == 2
    found = read_image(Location(tmp_path / "a.nd2", "1"), index=2)
    np.testing.assert_array_equal(found, np.moveaxis(FRAMES[5], -1, 0))
    with pytest.raises(InputError, match=r"holds 2 arrays: 0 \(3 x 2 x 12 x 16\), 1"):
        read_image(tmp_path / "a.nd2")
    with pytest.raises(InputError, match="holds no image 2; it holds 0, 1"):
        read_image(Location(tmp_path / "a.nd2", "2"))


def test_a_frame_that_is_missing_is_no_zeros(tmp_path):
    write_nd2(tmp_path / "a.nd2", FRAMES.astype(np.uint16), {TIME: 2, SLICES: 3}, stored=5)
    with pytest.raises(InputError, match="holds 5 of 6 frames; was the acquisition stopped"):
        read_image(tmp_path / "a.nd2")

"""EDF and CBF files by fabio."""

import fabio
import numpy as np
import pytest

from msdtool.data.readers import arrangement, read_image
from msdtool.data.specifiers import Location

VALUES = np.random.default_rng(0).integers(0, 100, (3, 4, 5))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_frames_of_an_edf(tmp_path, dtype):
    image = fabio.edfimage.EdfImage(data=VALUES[0].astype(dtype))
    for frame in VALUES[1:]:
        image.append_frame(data=frame.astype(dtype))
    image.write(str(tmp_path / "a.edf"))
    place = Location(tmp_path / "a.edf")
    assert (arrangement(place).axes, arrangement(place).shape) == ("ZYX", (3, 4, 5))
    found = read_image(place, index=2)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found[0], VALUES[2])
    np.testing.assert_array_equal(read_image(place, 3)[0], VALUES)
    window = (slice(1, 3), slice(2, 5))
    np.testing.assert_array_equal(
        read_image(place, index=1, window=window)[0], VALUES[(1, *window)]
    )


def test_an_image_of_a_cbf(tmp_path):
    fabio.cbfimage.CbfImage(data=VALUES[0].astype(np.int32)).write(str(tmp_path / "a.cbf"))
    found = read_image(tmp_path / "a.cbf", window=(slice(0, 2), slice(1, 4)))
    np.testing.assert_array_equal(found[0], VALUES[0, :2, 1:4])

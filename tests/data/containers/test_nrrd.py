"""NRRD files by pynrrd."""

import nrrd
import numpy as np
import pytest

from msdtool.data.metadata import Step
from msdtool.data.readers import arrangement, metadata, read_image
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(np.int16)  # [Z, Y, X]


def write(path, array, **header):
    nrrd.write(str(path), array, header, index_order="C")
    return Location(path)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_types_and_encodings(tmp_path, encoding, dtype):
    place = write(tmp_path / "a.nrrd", VALUES.astype(dtype), encoding=encoding)
    assert arrangement(place, 3).axes == "ZYX"
    found = read_image(place, 3)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found[0], VALUES)
    np.testing.assert_array_equal(read_image(place, 2, index=1)[0], VALUES[1])


def test_big_endian(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(
        b"NRRD0004\ntype: int16\ndimension: 2\nsizes: 5 4\nendian: big\nencoding: raw\n\n"
        + VALUES[0].astype(">i2").tobytes()
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd")[0], VALUES[0])


def test_kinds_name_the_axes(tmp_path):
    place = write(tmp_path / "a.nrrd", VALUES, kinds=["vector", "domain", "domain"])
    assert arrangement(place).axes == "YXC"  # the first in the file is the fastest
    place = write(tmp_path / "b.nrrd", VALUES, kinds=["domain", "domain", "time"])
    assert arrangement(place).axes == "TYX"


def test_spacings(tmp_path):
    place = write(tmp_path / "a.nrrd", VALUES, spacings=[1.0, 2.0, 3.0], units=["mm", "mm", "mm"])
    steps = {"X": Step(1.0, "mm"), "Y": Step(2.0, "mm"), "Z": Step(3.0, "mm")}
    assert metadata(place, 3).steps == steps


def test_directions_in_space(tmp_path):
    header = {
        "space": "left-posterior-superior",
        "space directions": np.array([[0.0, 0.5, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]),
        "space units": ["mm", "mm", "mm"],
        "space origin": np.array([7.0, 8.0, 9.0]),
    }
    steps = metadata(write(tmp_path / "a.nrrd", VALUES, **header), 3).steps
    assert [steps[letter].size for letter in "XYZ"] == [0.5, 2.0, 3.0]
    assert [steps[letter].start for letter in "XYZ"] == [7.0, 8.0, 9.0]


def test_pixels_elsewhere_are_refused(tmp_path):
    nrrd.write(str(tmp_path / "a.nhdr"), VALUES)
    text = (tmp_path / "a.nhdr").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(text)
    with pytest.raises(InputError, match="its pixels lie in another file"):
        arrangement(Location(tmp_path / "a.nrrd"))


def test_a_truncated_file(tmp_path):
    place = write(tmp_path / "a.nrrd", VALUES, encoding="raw")
    place.path.write_bytes(place.path.read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        arrangement(place)

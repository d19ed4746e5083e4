"""MRC: files by mrcfile are read, and mrcfile reads ours."""

import struct

import mrcfile
import numpy as np
import pytest

from msdtool.data.metadata import Description, Metadata, Step
from msdtool.data.readers import arrangement, metadata, read_image
from msdtool.data.sinks import Result, open_sink
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 100, (3, 4, 5))


def write(path, array, volumes=0, **header):
    with mrcfile.new(path) as file:
        file.set_data(array)
        if volumes:
            file.set_volume()
        file.voxel_size = (1.0, 2.0, 3.0)
        for name, value in header.items():
            file.header[name] = value
    return Location(path)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32", ">i2", ">f4"])
def test_types(tmp_path, dtype):
    place = write(tmp_path / "a.mrc", VALUES.astype(dtype))
    assert (arrangement(place).axes, arrangement(place).shape) == ("ZYX", (3, 4, 5))
    found = read_image(place, index=1)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found[0], VALUES[1])
    window = read_image(place, index=2, window=(slice(1, 3), slice(2, 5)))
    np.testing.assert_array_equal(window[0], VALUES[2, 1:3, 2:5])


def test_one_image_and_a_series_of_volumes(tmp_path):
    image = write(tmp_path / "a.mrc", VALUES[0].astype(np.float32))
    assert arrangement(image).shape == (4, 5)
    series = np.stack([VALUES, VALUES + 1]).astype(np.int16)
    with mrcfile.new(tmp_path / "b.mrc") as file:
        file.set_data(series)
    place = Location(tmp_path / "b.mrc")
    assert (arrangement(place, 3).axes, arrangement(place, 3).num_images) == ("TZYX", 2)
    np.testing.assert_array_equal(read_image(place, 3, index=1)[0], series[1])


def test_an_extended_header_is_skipped(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(VALUES.astype(np.int16))
        file.set_extended_header(np.zeros(100, "V1"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.mrc", 3)[0], VALUES)


def test_pixel_sizes_are_in_angstrom(tmp_path):
    place = write(tmp_path / "a.mrc", VALUES.astype(np.int16))
    found = metadata(place).steps
    assert found == {"X": Step(1.0, "Å"), "Y": Step(2.0, "Å"), "Z": Step(3.0, "Å")}


@pytest.mark.parametrize(
    ("array", "header", "message"),
    [
        (VALUES.astype(np.complex64), {}, "the MRC mode 4 are not real numbers"),
        (VALUES.astype(np.int16), {"mapc": 3, "maps": 1}, "not in the order X, Y, Z"),
        (VALUES.astype(np.int16), {"nz": 100}, "truncated"),
        (VALUES.astype(np.int16), {"ispg": 401, "mz": 2}, "3 sections do not divide into volumes"),
    ],
)
def test_what_cannot_be_read(tmp_path, array, header, message):
    place = write(tmp_path / "a.mrc", array, **header)
    with pytest.raises(InputError, match=message):
        arrangement(place)


@pytest.mark.parametrize("counts", [(), (3,)])
def test_a_result_is_valid(tmp_path, counts):
    steps = {"X": Step(0.5, "nm", 10.0), "Y": Step(0.5, "nm"), "Z": Step(2.0, "nm")}
    result = Result(
        counts,
        "Z" * len(counts),
        (1, 4, 5),
        "float32",
        {},
        description=Description(Metadata(steps=steps)),
    )
    sink = open_sink("mrc", tmp_path / "a.mrc", result)
    images = VALUES[: result.num_images].astype(np.float32)
    for index, image in enumerate(images):
        sink.write(index, 0, image[None])
    sink.finish()
    assert mrcfile.validate(tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as file:
        np.testing.assert_array_equal(file.data, images if counts else images[0])
        assert float(file.voxel_size.x) == pytest.approx(5.0)
        assert float(file.header.origin.x) == pytest.approx(100.0)
    found = metadata(Location(tmp_path / "a.mrc")).steps
    assert found["X"] == Step(pytest.approx(5.0), "Å", pytest.approx(100.0))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("flags, dtype", [(0, "u1"), (1, "i1"), (None, "i1")])
def test_bytes_of_imod_say_whether_they_have_a_sign(tmp_path, order, flags, dtype):
    """At 152, IMOD writes its stamp and flags, of which bit 0 means signed bytes."""
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(stored.view(np.int8))
    header = file_header = bytearray((tmp_path / "a.mrc").read_bytes()[:1024])
    if order == ">":
        words = np.frombuffer(header, "<i4").astype(">i4").tobytes()
        file_header = bytearray(words[:208] + b"MAP \x11\x11\0\0" + words[216:])
    if flags is not None:
        file_header[152:160] = struct.pack(f"{order}ii", 1146047817, flags)
    (tmp_path / "b.mrc").write_bytes(file_header + stored.tobytes())
    found = read_image(tmp_path / "b.mrc")[0]
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, stored.view(dtype))

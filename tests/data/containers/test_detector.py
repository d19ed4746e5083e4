"""EDF and CBF files by fabio."""

import resource

import fabio
import numpy as np
import pytest

from msdtool.data.readers import arrangement, read_image
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

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


def edf(path, frames):
    image = fabio.edfimage.EdfImage(data=frames[0])
    for frame in frames[1:]:
        image.append_frame(data=frame)
    image.write(str(path))
    return path.read_bytes()


def test_an_edf_that_is_cut_anywhere_is_not_read_as_zeros(tmp_path):
    content = edf(tmp_path / "a.edf", VALUES[:2].astype(np.uint16))
    assert read_image(tmp_path / "a.edf", 3)[0].tolist() == VALUES[:2].tolist()
    size = len(content) // 2
    for count in (1, 20, size - 520, size - 1, size + 1, size + 300, 2 * size - 1):
        (tmp_path / "b.edf").write_bytes(content[:count])
        with pytest.raises(InputError, match=r"b\.edf: cannot be read as an image"):
            read_image(tmp_path / "b.edf", 3)


@pytest.mark.parametrize("other", [VALUES[1].astype(np.float32), VALUES[1, :2].astype(np.uint16)])
def test_frames_that_differ_are_refused(tmp_path, other):
    edf(tmp_path / "a.edf", [VALUES[0].astype(np.uint16), other])
    with pytest.raises(InputError, match=r"its frames differ: uint16 of shape .* and "):
        read_image(tmp_path / "a.edf")


def header(*lines):
    """A header of EDF, of 512 bytes."""
    fields = ("ByteOrder = LowByteFirst", "DataType = UnsignedByte", *lines)
    return ("{\n" + "".join(f"{field} ;\n" for field in fields)).ljust(510).encode() + b"}\n"


def test_a_size_beyond_the_file_takes_no_memory(tmp_path):
    content = header("Dim_1 = 40000", "Dim_2 = 40000") + b"x" * 100
    (tmp_path / "a.edf").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        InputError, match=r"truncated: frame 0 has 100 bytes in a\.edf instead of 16"
    ):
        read_image(tmp_path / "a.edf")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_the_pixels_of_an_edf_may_lie_in_another_file(tmp_path):
    (tmp_path / "a.edf").write_bytes(
        header("EDF_BinaryFileName = a.bin", "EDF_BinaryFilePosition = 3", "Dim_1 = 4", "Dim_2 = 2")
    )
    (tmp_path / "a.bin").write_bytes(b"---" + bytes(range(8)))
    assert read_image(tmp_path / "a.edf").tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    (tmp_path / "b.edf").write_bytes((tmp_path / "a.edf").read_bytes())
    (tmp_path / "a.bin").write_bytes(b"---" + bytes(range(7)))
    with pytest.raises(InputError, match=r"truncated: frame 0 has 7 bytes in a\.bin instead of 8"):
        read_image(tmp_path / "b.edf")


def test_a_cbf_whose_checksum_does_not_fit_is_refused(tmp_path):
    fabio.cbfimage.CbfImage(data=VALUES[0].astype(np.int32)).write(str(tmp_path / "a.cbf"))
    content = bytearray((tmp_path / "a.cbf").read_bytes())
    content[content.index(b"\x0c\x1a\x04\xd5") + 10] ^= 1  # after the mark of the binary part
    (tmp_path / "a.cbf").write_bytes(content)
    with pytest.raises(InputError, match="damaged: Checksum of binary data mismatch"):
        read_image(tmp_path / "a.cbf")


def test_a_cbf_that_is_cut_short_is_refused(tmp_path):
    fabio.cbfimage.CbfImage(data=VALUES[0].astype(np.int32)).write(str(tmp_path / "a.cbf"))
    content = (tmp_path / "a.cbf").read_bytes()
    start = content.index(b"\x0c\x1a\x04\xd5") + 4
    (tmp_path / "a.cbf").write_bytes(content[: start + 15])
    with pytest.raises(InputError, match="it is damaged"):
        read_image(tmp_path / "a.cbf")

"""PBM, PGM and PPM, written by hand as their specification says."""

import numpy as np
import pytest

from msdtool.data.readers import read_image
from msdtool.errors import InputError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("largest", [1, 3, 100, 254, 255, 256, 1023, 4095, 40000, 65535])
@pytest.mark.parametrize(
    "header",
    [b"P5\n33 32\n%d\n", b"P5\r# by a camera\r33 32\r%d\r", b"P5#a\n33 # b\r\n32\n#c\n#d\n%d\t"],
)
def test_a_pgm_of_any_largest_value(tmp_path, largest, header):
    values = (np.arange(32 * 33).reshape(32, 33) * 7919) % (largest + 1)
    stored = values.astype(">u2" if largest > 255 else np.uint8)
    (tmp_path / "a.pgm").write_bytes(header % largest + stored.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm")[0], values)


@pytest.mark.parametrize("largest", [3, 255, 256, 4095, 65535])
def test_a_ppm(tmp_path, largest):
    values = RNG.integers(0, largest + 1, (4, 5, 3))
    stored = values.astype(">u2" if largest > 255 else np.uint8)
    (tmp_path / "a.ppm").write_bytes(b"P6 5 4 %d\n" % largest + stored.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm"), values.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "text, values",
    [
        ("P1\n3 2\n# c\n1 0 0\n011\n", [[[0, 1, 1], [1, 0, 0]]]),
        ("P2\n4 1\n3\n0 1 # c\n2 3\n", [[[0, 1, 2, 3]]]),
        ("P2 2 1 65535 7 65535", [[[7, 65535]]]),
        ("P3\n1 2 4095\n1 2 4095\n4 5 6\n", [[[1], [4]], [[2], [5]], [[4095], [6]]]),
    ],
)
def test_plain_text(tmp_path, text, values):
    (tmp_path / "a.pnm").write_text(text)
    assert read_image(tmp_path / "a.pnm").tolist() == values


def test_a_pbm_pads_its_rows_to_bytes(tmp_path):
    (tmp_path / "a.pbm").write_bytes(b"P4\n10 2\n" + bytes([0b10000001, 0b01000000, 0, 0b10000000]))
    white = read_image(tmp_path / "a.pbm")[0]
    assert (~white).astype(int).tolist() == [[1, 0, 0, 0, 0, 0, 0, 1, 0, 1], [0] * 8 + [1, 0]]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"P5 4 3 4095\n" + bytes(24) * 3, "has 72 bytes instead of 24: several images, or a"),
        (b"P5 4 3 4095 # x\n" + bytes(24), "has 28 bytes instead of 24: several images, or a com"),
        (b"P5 4 3 4095\n" + bytes(23), "damaged or truncated: it has 23 bytes instead of 24"),
        (b"P5 2 1 4095\n\x0f\xff\x10\0", "has the value 4096 outside of 0 to 4095"),
        (b"P5 4 3 100\n" + bytes([101] * 12), "has the value 101 outside of 0 to 100"),
        (b"P2 2 1 3 1 4", "has the value 4 outside of 0 to 3"),
        (b"P2 2 1 3 1 -4", "has the value -4 outside of 0 to 3"),
        (b"P2 2 1 3 1 2 3", "has 3 values instead of 2"),
        (b"P2 2 1 3 1 0000000002", "damaged: it has a value of 10 characters"),
        (b"P1 2 1 1 2", "has the value 2 outside of 0 to 1"),
        (b"P4 40000 40000\n" + bytes(100), "has 100 bytes instead of 200000000"),
        (b"P5 4 3 70000\n" + bytes(24), "damaged: its largest value is 70000"),
        (b"P5 9999999999 3 255\n" + bytes(24), "damaged: its size is beyond bounds"),
    ],
)
def test_what_would_be_read_wrong_is_refused(tmp_path, content, message):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / "a.pgm")

import os

import numpy as np
import pytest

from msdtool.positioned import BINARY, read_at, write_at


@pytest.fixture(params=["with", "without"])
def calls(request, monkeypatch):
    """With the system's calls, and as on Windows, which has none of them."""
    if request.param == "without":
        for name in ("preadv", "pwritev", "pread", "pwrite"):
            monkeypatch.delattr(os, name, raising=False)


@pytest.fixture
def file(tmp_path):
    file = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT | BINARY)
    yield file
    os.close(file)


def test_buffers_lie_one_after_another(calls, file, tmp_path):
    parts = [np.arange(6, dtype=np.int32).reshape(2, 3), b"\n\r\n", memoryview(b"end")]
    assert write_at(file, parts, 5) == 24 + 3 + 3
    expected = b"\0" * 5 + parts[0].tobytes() + b"\n\r\nend"
    assert (tmp_path / "a").read_bytes() == expected
    numbers, rest = np.empty((2, 3), np.int32), bytearray(6)
    assert read_at(file, [numbers, rest], 5) == 30
    assert np.array_equal(numbers, parts[0]) and bytes(rest) == b"\n\r\nend"


def test_less_is_read_at_the_end(calls, file):
    write_at(file, [b"abc"], 0)
    buffer = bytearray(8)
    assert read_at(file, [buffer], 1) == 2
    assert bytes(buffer[:2]) == b"bc"


def test_the_file_stays_open(calls, file):
    for number in range(3):
        write_at(file, [bytes([number])], number)
    assert os.fstat(file).st_size == 3

"""Results that are written piece by piece."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from msdtool.data.readers import arrangement, read_image
from msdtool.data.sinks import SUFFIXES, Journal, Past, Result, open_sink
from msdtool.data.specifiers import Location
from msdtool.errors import Error, InputError

pytest.importorskip("zarr", "3")

# Sizes of the axes that count images, their letters, and an image [C, *space].
SHAPES = [
    ((), "", (1, 7, 9)),
    ((), "", (3, 7, 9)),
    ((4,), "Z", (1, 7, 9)),
    ((4,), "Z", (2, 7, 9)),
    ((2, 3), "TZ", (1, 7, 9)),
    ((), "", (1, 4, 7, 9)),
    ((), "", (2, 4, 7, 9)),
    ((2,), "T", (2, 4, 7, 9)),
]


HELD = {
    "mrc": ("YX", "ZYX", "TZYX"),
    "nii": ("YX", "ZYX", "TZYX", "CYX", "CZYX"),
}
"""The axes of results in formats that cannot hold all."""


def open_or_skip(format, path, result):
    if result.axes not in HELD.get(format, (result.axes,)) or (format, result.dtype) == (
        "mrc",
        "uint8",
    ):
        with pytest.raises(InputError, match="choose another format"):
            open_sink(format, path, result)
        assert not list(path.parent.glob("*"))
        pytest.skip("the format has no such axes or type")
    return open_sink(format, path, result)


def example(result):
    rng = np.random.default_rng(0)
    return rng.integers(0, 100, (result.num_images, *result.image)).astype(result.dtype)


def write(sink, images, start=0, stop=None):
    """Write each image in three parts."""
    for index in range(start, len(images) if stop is None else stop):
        size = images.shape[2]
        for low, high in ((0, 1), (1, 3), (3, size)):
            sink.write(index, low, images[index][:, low:high])


def read(path, format, result, index):
    ndim = len(result.image) - 1
    if format == "files":
        return read_image(sorted(path.glob("*.tif"))[index], ndim)
    axes = result.axes if format == "npy" else None
    return read_image(Location(path, result.inner, axes=axes), ndim, index=index)


@pytest.mark.parametrize("format", SUFFIXES)
@pytest.mark.parametrize(("counts", "channels"), [((), 1), ((), 3), ((2,), 1), ((2,), 3)])
def test_an_image_can_be_written_along_any_axis(tmp_path, format, counts, channels):
    result = Result(counts, "T" * len(counts), (channels, 4, 7, 9), "uint16", {})
    images = example(result)
    for axis in range(3):
        path = tmp_path / f"{axis}{SUFFIXES[format]}"
        sink = open_or_skip(format, path, result)
        for index, image in enumerate(images):
            for start, part in zip((0, 1, 3), np.split(image, [1, 3], 1 + axis), strict=True):
                sink.write(index, start, part, axis)
        sink.finish()
        for index, image in enumerate(images):
            np.testing.assert_array_equal(read(path, format, result, index), image)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16"])
@pytest.mark.parametrize(("counts", "names", "image"), SHAPES)
@pytest.mark.parametrize("format", SUFFIXES)
def test_what_is_written_is_read_again(tmp_path, format, counts, names, image, dtype):
    inner = "/entry/data" if format in ("h5", "zarr") else ""
    result = Result(counts, names, image, dtype, {}, inner)
    path = tmp_path / "new" / f"a{SUFFIXES[format]}"
    images = example(result)
    sink = open_or_skip(format, path, result)
    write(sink, images)
    assert not path.exists()
    sink.finish()
    assert list(path.parent.iterdir()) == [path]
    for index, expected in enumerate(images):
        found = read(path, format, result, index)
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, expected)
    if format in ("tif", "h5", "zarr"):
        found = arrangement(Location(path, inner), len(image) - 1)
        assert (found.axes, found.shape) == (result.axes, result.shape)


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_result_is_continued_where_it_was_saved(tmp_path, format):
    result = Result((5,), "Z", (1, 7, 9), "float32", {"input": "a.tif"})
    path = tmp_path / f"a{SUFFIXES[format]}"
    images = example(result)
    sink = open_sink(format, path, result)
    write(sink, images, stop=2)
    sink.save(2, b"state")
    write(sink, images + 1, start=2, stop=3)  # after the last save: not to be relied on
    sink.close()
    assert Journal(path).past(result) == Past(2, b"state")
    again = open_sink(format, path, result, is_new=False)
    write(again, images, start=2)
    again.finish()
    for index, expected in enumerate(images):
        np.testing.assert_array_equal(read(path, format, result, index), expected)
    assert list(tmp_path.iterdir()) == [path]
    assert Journal(path).past(result) is None


@pytest.mark.parametrize(
    "other",
    [
        Result((5,), "Z", (1, 7, 9), "float32", {"input": "b.tif"}),
        Result((6,), "Z", (1, 7, 9), "float32", {"input": "a.tif"}),
        Result((5,), "Z", (1, 7, 9), "uint8", {"input": "a.tif"}),
    ],
)
def test_a_result_of_another_origin_starts_from_scratch(tmp_path, other):
    result = Result((5,), "Z", (1, 7, 9), "float32", {"input": "a.tif"})
    sink = open_sink("tif", tmp_path / "a.tif", result)
    write(sink, example(result), stop=3)
    sink.save(3)
    sink.close()
    assert Journal(tmp_path / "a.tif").past(other) is None
    new = open_sink("tif", tmp_path / "a.tif", other)
    new.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"done": 1}', b"\xff"])
def test_a_damaged_journal_counts_for_nothing(tmp_path, content):
    (tmp_path / ".a.tif.0a1b2c3d.part").touch()
    (tmp_path / ".a.tif.part.json").write_bytes(content)
    result = Result((5,), "Z", (1, 7, 9), "uint8", {})
    assert Journal(tmp_path / "a.tif").past(result) is None


def test_what_a_killed_process_was_recording_goes_with_the_record(tmp_path):
    result = Result((3,), "Z", (1, 4, 5), "uint8", {})
    for name in ("..a[1].tif.part.json.0a1b2c3d.part", "..a[1].tif.part.state.2c3d4e5f.part"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "..b.tif.part.json.0a1b2c3d.part").touch()  # of a result that may be under way
    sink = open_sink("tif", tmp_path / "a[1].tif", result)
    write(sink, example(result))
    sink.finish()
    assert {path.name for path in tmp_path.iterdir()} == {
        "a[1].tif",
        "..b.tif.part.json.0a1b2c3d.part",
    }


@pytest.mark.parametrize("format", SUFFIXES)
def test_an_older_result_is_replaced_at_the_end_only(tmp_path, format):
    path = tmp_path / f"a{SUFFIXES[format]}"
    for value in (1, 2):
        result = Result((3,), "Z", (1, 4, 5), "int16", {})
        sink = open_sink(format, path, result)
        write(sink, np.full((3, 1, 4, 5), value, np.int16))
        if value == 2:
            assert read(path, format, result, 0).max() == 1
        sink.finish()
        assert read(path, format, result, 2).min() == value
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_names_the_file(tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    result = Result((), "", (1, 4, 5), "uint8", {})
    sink = open_sink("tif", tmp_path / "a.tif", result)
    monkeypatch.setattr(os, "pwritev", no_space)
    with pytest.raises(Error) as error:
        sink.write(0, 0, np.zeros((1, 4, 5)))
    assert error.value.message == f"{tmp_path}/a.tif: cannot be written: No space left on device"
    sink.discard()
    assert list(tmp_path.iterdir()) == []
    Path(tmp_path / "file").touch()
    with pytest.raises(Error, match=r"a\.tif: cannot be written: Not a directory"):
        open_sink("tif", tmp_path / "file" / "a.tif", result)

"""Images to files."""

import errno

import numpy as np
import pytest
import tifffile

from msdtool.data.readers import read_image
from msdtool.data.writers import label_dtype, write_tiff
from msdtool.errors import Error

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16", "int16"])
@pytest.mark.parametrize(
    ("shape", "written"),
    [
        ((1, 5, 6), (5, 6)),
        ((2, 5, 6), (2, 5, 6)),
        ((3, 5, 6), (3, 5, 6)),
        ((1, 4, 5, 6), (4, 5, 6)),
        ((3, 4, 5, 6), (3, 4, 5, 6)),
    ],
)
def test_what_is_written_is_read_again(tmp_path, shape, written, dtype):
    image = (100 * RNG.normal(size=shape)).astype(dtype)
    path = tmp_path / "new" / "a.tif"
    write_tiff(path, image)
    found = tifffile.imread(path)
    assert (found.shape, found.dtype) == (written, np.dtype(dtype))
    np.testing.assert_array_equal(found, image.reshape(written))
    np.testing.assert_array_equal(read_image(path, len(shape) - 1), image)
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "a.tif"
    for value in (1, 2):
        write_tiff(path, np.full((1, 3, 4), value, np.uint8))
    assert tifffile.imread(path).tolist() == [[2] * 4] * 3


def test_a_failure_names_the_file_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_text("before")

    def no_space(file, *_args, **_options):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", no_space)
    with pytest.raises(Error) as error:
        write_tiff(path, np.zeros((1, 3, 4), np.uint8))
    assert error.value.message == f"{path}: cannot be written: No space left on device"
    assert error.value.exit_code == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], "uint8"),
        ([0, 256], "uint16"),
        ([65535], "uint16"),
        ([-1, 1], "int16"),
        ([-32768, 32767], "int16"),
        ([65536], "int32"),
        ([-1, 40000], "int32"),
        ([2**31], "int64"),
        ([-(2**31) - 1], "int64"),
    ],
)
def test_labels_are_written_in_the_smallest_type(values, dtype):
    assert label_dtype(values) == np.dtype(dtype)

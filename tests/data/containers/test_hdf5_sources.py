"""Files beside an HDF5 file that hold its pixels."""

import os

import h5py
import numpy as np
import pytest

from msdtool import ImageStack
from msdtool.errors import InputError

VALUES = np.random.default_rng(0).integers(1, 255, (4, 6, 7), dtype=np.uint8)
BYTES = VALUES.tobytes()


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A file whose pixels lie in two raw files, the first after a header of 5 bytes."""
    monkeypatch.chdir(tmp_path)  # HDF5 searches raw files in the working directory
    (tmp_path / "one.raw").write_bytes(b"start" + BYTES[:100])
    (tmp_path / "two.raw").write_bytes(BYTES[100:])
    places = [
        ("one.raw", 5, 100),
        ("two.raw", 0, h5py.h5f.UNLIMITED if hasattr(h5py.h5f, "UNLIMITED") else 2**64 - 1),
    ]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", VALUES.shape, VALUES.dtype, external=places)
    return tmp_path / "a.h5"


def test_raw_files_are_read(stored):
    np.testing.assert_array_equal(ImageStack(str(stored))[3][0], VALUES[3])


def test_raw_files_may_lie_where_a_variable_names(stored, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(InputError, match=r"in the file one\.raw, which is missing; start in"):
        ImageStack(str(stored))
    monkeypatch.setenv("HDF5_EXTFILE_PREFIX", "${ORIGIN}")  # HDF5 itself reads it when it starts
    assert len(ImageStack(str(stored))) == 4


@pytest.mark.parametrize("name, size, needed", [("one.raw", 104, 105), ("two.raw", 67, 68)])
def test_a_raw_file_that_is_cut_short_is_not_read_as_zeros(stored, name, size, needed):
    path = stored.parent / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{name}, which has {size} bytes instead of {needed};"):
        ImageStack(str(stored))


def test_a_pipe_instead_of_a_raw_file_is_not_waited_for(stored):
    (stored.parent / "two.raw").unlink()
    os.mkfifo(stored.parent / "two.raw")
    with pytest.raises(InputError, match="it is a pipe; save what it contains as a file"):
        ImageStack(str(stored))


def write(path, name="data"):
    with h5py.File(path, "w") as file:
        file[name] = VALUES
    return path


def virtual(path, source, inner="data"):
    layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
    layout[:] = h5py.VirtualSource(source, inner, shape=VALUES.shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("view", layout)
    return path


def test_a_virtual_dataset(tmp_path):
    write(tmp_path / "part.h5")
    stack = ImageStack(str(virtual(tmp_path / "scan.h5", "part.h5")))
    np.testing.assert_array_equal(stack[2][0], VALUES[2])
    own = virtual(write(tmp_path / "own.h5"), ".")
    np.testing.assert_array_equal(ImageStack(f"{own}::view")[2][0], VALUES[2])


@pytest.mark.parametrize("held", [None, "other"])
def test_a_virtual_dataset_without_its_source_is_not_read_as_zeros(tmp_path, held):
    if held:
        write(tmp_path / "part.h5", held)
    scan = virtual(tmp_path / "scan.h5", "part.h5")
    with pytest.raises(InputError, match=r"whose source data in the file part\.h5 is missing"):
        ImageStack(str(scan))


def test_a_virtual_dataset_whose_sources_a_variable_names(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "part.h5")
    scan = virtual(tmp_path / "scan.h5", "part.h5")
    monkeypatch.setenv("HDF5_VDS_PREFIX", str(tmp_path / "parts"))
    assert len(ImageStack(str(scan))) == 4

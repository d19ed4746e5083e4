"""Files beside an HDF5 file that hold its pixels."""

import os
import subprocess
import sys

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


def virtual(path, source, inner="data", name="view"):
    layout = h5py.VirtualLayout(VALUES.shape, VALUES.dtype)
    layout[:] = h5py.VirtualSource(source, inner, shape=VALUES.shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout)
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


def test_a_virtual_dataset_of_another_one_whose_source_is_missing(tmp_path):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "part.h5")
    virtual(tmp_path / "parts" / "inner.h5", "part.h5")
    scan = virtual(tmp_path / "scan.h5", "parts/inner.h5", "view")
    np.testing.assert_array_equal(ImageStack(str(scan))[2][0], VALUES[2])
    (tmp_path / "parts" / "part.h5").unlink()
    with pytest.raises(
        InputError, match=r"source data in the file part\.h5 is missing; .*inner\.h5"
    ):
        ImageStack(str(virtual(tmp_path / "again.h5", "parts/inner.h5", "view")))


def test_virtual_datasets_in_a_circle_end(tmp_path):
    virtual(tmp_path / "a.h5", "b.h5", "view")
    virtual(tmp_path / "b.h5", "a.h5", "view")
    assert len(ImageStack(str(tmp_path / "a.h5"))) == 4


@pytest.mark.parametrize("target", ["part.h5", "nowhere.h5"])
def test_a_source_that_is_a_link(tmp_path, target):
    write(tmp_path / "part.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["data"] = h5py.ExternalLink(target, "/data")
    scan = str(virtual(tmp_path / "scan.h5", "linked.h5"))
    if target == "part.h5":
        np.testing.assert_array_equal(ImageStack(scan)[2][0], VALUES[2])
    else:
        with pytest.raises(InputError, match=r"source data in the file linked\.h5 is missing"):
            ImageStack(scan)


def test_a_source_is_found_where_hdf5_finds_it(tmp_path):
    """Beside the file that a link leads to, and beside the file if its own folder is gone."""
    (tmp_path / "links").mkdir()
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "part.h5")
    scan = virtual(tmp_path / "scan.h5", "parts/part.h5")
    (tmp_path / "links" / "scan.h5").symlink_to(scan)
    write(tmp_path / "moved.h5")
    moved = virtual(tmp_path / "all.h5", "/no/such/folder/moved.h5")
    for path in (tmp_path / "links" / "scan.h5", moved):
        np.testing.assert_array_equal(ImageStack(str(path))[2][0], VALUES[2])


def series(path, file, name):
    """A virtual dataset of a source per image, named by number; returns its path."""
    any_number = h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple(VALUES.shape, (any_number, *VALUES.shape[1:]))
    space.select_hyperslab((0, 0, 0), (any_number, 1, 1), block=(1, *VALUES.shape[1:]))
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_virtual(space, file, name, h5py.h5s.create_simple(VALUES.shape[1:]))
    with h5py.File(path, "a") as target:
        h5py.h5d.create(target.id, b"view", h5py.h5t.STD_U8LE, space, options)
    return path


@pytest.mark.parametrize("pattern", [b"s%%-%b.h5", b"s%b/%b.h5"])
def test_numbered_sources(tmp_path, pattern):
    for number in range(4):
        path = tmp_path / pattern.decode().replace("%%", "%").replace("%b", str(number))
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file["data"] = VALUES[number]
    stack = ImageStack(str(series(tmp_path / "scan.h5", pattern, b"data")))
    np.testing.assert_array_equal([stack[i][0] for i in range(4)], VALUES)
    path.unlink()
    assert len(ImageStack(str(series(tmp_path / "still.h5", pattern, b"data")))) == 3
    (tmp_path / pattern.decode().replace("%%", "%").replace("%b", "1")).unlink()
    with pytest.raises(InputError, match=r"source data in the file s.*1\.h5 is missing"):
        ImageStack(str(series(tmp_path / "gap.h5", pattern, b"data")))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("held", [(0, 1, 2, 3), (0, 2, 3)])
def test_numbered_datasets(tmp_path, own, held):
    with h5py.File(tmp_path / ("scan.h5" if own else "parts.h5"), "w") as file:
        for number in held:
            file[f"raw/{number}"] = VALUES[number]
    scan = series(tmp_path / "scan.h5", b"." if own else b"parts.h5", b"raw/%b")
    if len(held) == 4:
        np.testing.assert_array_equal(ImageStack(f"{scan}::view")[3][0], VALUES[3])
    else:
        with pytest.raises(InputError, match=r"source raw/1 in the file .* is missing"):
            ImageStack(f"{scan}::view")


def test_a_process_that_read_a_virtual_dataset_ends_well(tmp_path):
    """Of the HDF5 library, nothing of it may be open when a process ends: it crashes."""
    values = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["data"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource("source.h5", "data", values.shape)
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("data", layout)
    command = [sys.executable, "-m", "msdtool", "info", tmp_path / "a.h5"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[3, 4, 5]" in done.stdout

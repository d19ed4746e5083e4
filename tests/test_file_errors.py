"""What the system says about a file, as one sentence."""

import errno
import os

import pytest
from PIL import UnidentifiedImageError

from msdtool.errors import ConfigError, Error, InputError
from msdtool.file_errors import cannot_read, cannot_write, expand_home


def test_a_failure_to_write_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(ConfigError) as error, cannot_write(tmp_path, ConfigError):
        tmp_path.write_text("text")
    assert error.value.message == f"{tmp_path}: cannot be written: Is a directory"
    assert error.value.hint_key == ""


def test_a_name_that_is_taken_is_a_wrong_argument():
    with pytest.raises(ConfigError) as error, cannot_write("a"):
        raise FileExistsError(errno.EEXIST, "it is a pipe")
    assert error.value.message == "a: cannot be written: it is a pipe"


def test_a_full_disk_says_how_to_continue():
    with pytest.raises(Error) as error, cannot_write("last.pt", hint_key="resume"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.message == (
        "last.pt: cannot be written: No space left on device; free some space, then resume"
    )
    assert error.value.hint_key == "resume"


def test_a_short_write_of_numpy_suggests_a_full_disk():
    with pytest.raises(Error) as error, cannot_write("a.npy"):
        raise OSError("4 requested and 0 written")
    assert error.value.message == (
        "a.npy: cannot be written: 4 requested and 0 written; is the disk full?"
    )


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (FileNotFoundError(), "a.tif: no such file"),
        (IsADirectoryError(), "a.tif: is a folder, not a file"),
        (PermissionError(), "a.tif: no permission to read it"),
        (OSError(errno.EIO, "Input/output error"), "a.tif: cannot be read: Input/output error"),
    ],
)
def test_a_failure_to_read_names_the_file_and_the_reason(problem, message):
    with pytest.raises(InputError) as error, cannot_read("a.tif", InputError):
        raise problem
    assert error.value.message == message


def test_a_file_that_is_not_there_comes_with_advice_and_under_the_systems_name(tmp_path):
    missing = tmp_path / "a.yaml"
    with pytest.raises(ConfigError) as error, cannot_read(None, ConfigError, advice="make one"):
        missing.read_text()
    assert error.value.message == f"{missing}: no such file; make one"


@pytest.mark.parametrize(
    "problem",
    [OSError("bad header"), UnidentifiedImageError("bad header"), ValueError("bad header")],
)
def test_what_a_decoder_finds_in_a_file_passes_through(problem):
    with pytest.raises(type(problem), match="bad header"), cannot_read("a.tif", InputError):
        raise problem


def test_a_home_folder_that_is_not_known_is_told(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(expand_home("~/scans/a*.tif", InputError)) == "/home/ada/scans/a*.tif"
    assert str(expand_home("scans/a~", InputError)) == "scans/a~"
    with pytest.raises(InputError) as error:
        expand_home("~nobody-here/a.tif", InputError)
    assert error.value.message == (
        "~nobody-here/a.tif: the home folder ~nobody-here is not known here; write the folder's "
        "path in full, or ./~nobody-here for a folder of that name"
    )

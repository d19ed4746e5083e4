"""Files that are either whole or not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from msdtool.atomic import atomic_path, check_place


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_whole_and_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_that_was_there_stays_until_then(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("problem", [OSError, ValueError, KeyboardInterrupt])
def test_after_a_failure_everything_is_as_before(tmp_path, problem):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise problem

    with pytest.raises(problem):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_to_write_anything_is_told(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_folders_are_made(tmp_path):
    path = tmp_path / "b" / "c" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    """Else a power cut could leave an empty file under the good name."""
    path = tmp_path / "a.txt"
    happened = []

    def synced(descriptor):
        happened.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        happened.append(path.exists())

    monkeypatch.setattr(os, "fsync", synced)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert happened == [str(temporary), False, str(tmp_path), True]


def test_a_process_that_dies_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, pathlib, sys; from msdtool.atomic import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert path.read_text() == "old"
    # What it leaves is hidden, so that no glob and no folder takes it for an image.
    (left,) = set(names(tmp_path)) - {"a.txt"}
    assert left.startswith(".a.txt.") and left.endswith(".part")


def test_a_place_is_tried_and_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("mine")
    check_place(tmp_path / "folder" / "a.txt")
    check_place(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path / "folder") == []
    for path in (tmp_path, tmp_path / "file" / "a.txt", Path("/proc/a.txt")):
        with pytest.raises(OSError):
            check_place(path)

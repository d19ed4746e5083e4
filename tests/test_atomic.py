"""Files that are either whole or not there."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from msdtool.atomic import MARKER, atomic_path, check_place, destination, is_marked, mark, put


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


def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(tmp_path):
    abandoned = tmp_path / ".a.txt.0123abcd.part"
    abandoned.touch()
    other = tmp_path / ".b.txt.0123abcd.part"
    other.touch()
    with atomic_path(tmp_path / "a.txt") as first:
        assert not abandoned.exists()
        first.write_text("first")
        with atomic_path(tmp_path / "a.txt") as second:
            second.write_text("second")
        assert first.exists()
    assert names(tmp_path) == [other.name, "a.txt"]
    assert (tmp_path / "a.txt").read_text() == "first"


def test_who_claims_a_file_removes_what_was_left_himself(tmp_path):
    (tmp_path / ".a.txt.0123abcd.part").touch()
    with atomic_path(tmp_path / "a.txt", is_claimed=True) as temporary:
        temporary.touch()
    assert names(tmp_path) == [".a.txt.0123abcd.part", "a.txt"]


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


def write(path):
    with atomic_path(path) as temporary:
        temporary.write_text("new")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


def make_device(path):
    if os.geteuid():
        pytest.skip("only root can make a device node")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))


NO_FILES = {
    "a folder": Path.mkdir,
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": make_device,
}


@pytest.mark.parametrize("by_link", [False, True])
@pytest.mark.parametrize("kind", NO_FILES)
def test_only_a_regular_file_is_replaced(tmp_path, monkeypatch, kind, by_link):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    NO_FILES[kind](Path("a"))
    Path("link").symlink_to("a")
    path = tmp_path / ("link" if by_link else "a")
    before = os.lstat("a")
    for attempt in (write, check_place, destination):
        with pytest.raises(OSError) as error:
            attempt(path)
        assert error.value.strerror == (
            f"it is {kind}, and only a regular file is replaced; choose another name"
        )
    assert os.lstat("a") == before
    assert names(tmp_path) == ["a", "link"]


def test_what_appears_meanwhile_is_not_replaced_either(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(OSError, match="named pipe"), atomic_path(path) as temporary:
        temporary.write_text("new")
        os.mkfifo(path)
    assert path.is_fifo() and names(tmp_path) == ["a"]


@pytest.mark.parametrize("there", [True, False])
def test_links_are_written_through(tmp_path, there):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    target, link = tmp_path / "there/a", tmp_path / "here/link"
    (tmp_path / "here/other").symlink_to("../there/a")
    link.symlink_to("other")
    if there:
        target.write_text("old")
    write(link)
    assert target.read_text() == "new" and not target.is_symlink()
    assert link.is_symlink() and names(tmp_path / "here") == ["link", "other"]
    assert names(tmp_path / "there") == ["a"]


def test_a_link_to_itself_is_told(tmp_path):
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs two users")
def test_a_link_that_another_user_laid_in_a_shared_folder_is_not_followed(tmp_path):
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    mine.write_text("mine")
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "a"
    link.symlink_to(mine)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(OSError, match="a link owned by another user"):
        write(link)
    assert mine.read_text() == "mine" and names(shared) == ["a"]
    os.chown(link, 0, 0, follow_symlinks=False)
    write(link)
    assert mine.read_text() == "new"


def write_folder(path, number=1, place="."):
    """Write a folder as a result is written."""
    target = destination(path, is_folder=True)
    new = target.with_name(f".{target.name}.part")
    (new / place).mkdir(parents=True)
    for name in range(number):
        (new / place / f"{name}.tif").write_text("new")
    mark(new, new / place)
    put(new, target)


@pytest.mark.parametrize("place", [".", "entry/data"])
def test_a_folder_of_ours_is_replaced(tmp_path, place):
    path = tmp_path / "a"
    write_folder(path, 3, place)
    assert is_marked(path)
    (path / ".DS_Store").touch()
    write_folder(path, 1, place)
    assert names(path / place) == [MARKER, "0.tif"]
    assert names(tmp_path) == ["a"]


def test_an_empty_folder_is_replaced_and_a_link_to_a_folder_written_through(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert not is_marked(tmp_path / "a")
    for _ in range(2):
        write_folder(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "a") == [MARKER, "0.tif"]
    assert names(tmp_path) == ["a", "link"]


FOREIGN = {
    "thesis.tex": lambda path: (path / "thesis.tex").write_text("mine"),
    "sub/thesis.tex": lambda path: (
        (path / "sub").mkdir(),
        (path / "sub/thesis.tex").write_text("mine"),
    ),
    "thesis": lambda path: (path / "thesis").symlink_to(path.parent),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("is_ours", [False, True])
def test_a_folder_with_work_of_others_stays(tmp_path, name, is_ours):
    path = tmp_path / "a"
    if is_ours:
        write_folder(path)
    else:
        path.mkdir()
    FOREIGN[name](path)
    before = sorted(path.rglob("*"))
    with pytest.raises(OSError) as error:
        write_folder(path)
    assert error.value.strerror == (
        f"the folder holds {name}, which is not part of the result; move it elsewhere, or choose "
        "another name"
        if is_ours
        else "the folder has no .msdtool.json, so msdtool did not write it; delete it yourself if "
        "unneeded, or choose another name"
    )
    assert sorted(path.rglob("*")) == before


def test_work_of_others_that_comes_while_a_folder_is_written_stays(tmp_path):
    path, new = tmp_path / "a", tmp_path / ".a.part"
    new.mkdir()
    mark(new, new)
    path.mkdir()
    (path / "thesis.tex").write_text("mine")
    with pytest.raises(OSError, match="so msdtool did not write it"):
        put(new, path)
    assert (path / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": 1}', '{"files": [["a"]]}'])
def test_a_damaged_marker_shows_nothing(tmp_path, content):
    path = tmp_path / "a"
    path.mkdir()
    (path / MARKER).write_text(content)
    assert not is_marked(path)
    with pytest.raises(OSError, match="so msdtool did not write it"):
        destination(path, is_folder=True)


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(OSError, match="it is a file, and only a folder of results is replaced"):
        write_folder(tmp_path / "a")

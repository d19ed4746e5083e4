"""One process at a time."""

import multiprocessing
import subprocess
import sys

import pytest

from msdtool.errors import RunDirectoryError
from msdtool.runs.lock import FolderLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

HOLD = """
import sys
from pathlib import Path
from msdtool.runs.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_has_one_holder_until_that_lets_go(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(RunDirectoryError) as error:
        FolderLock(tmp_path)
    assert error.value.message == (
        f"{tmp_path}: another process trains there now; wait for it to end, end it, or choose "
        "another place with --run-dir"
    )
    lock.release()
    lock.release()  # once is enough
    again = FolderLock(tmp_path)
    with pytest.raises(RunDirectoryError):
        FolderLock(tmp_path)
    del again
    FolderLock(tmp_path)


def test_a_killed_process_holds_nothing(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunDirectoryError):
            FolderLock(tmp_path)
        holder.kill()
        holder.wait()
        FolderLock(tmp_path)


def wait_for_end(pipe):
    pipe.send("begun")
    pipe.recv()


def test_a_child_does_not_hold_what_its_parent_held(tmp_path):
    """Those that read images are forked while their parent holds the folder."""
    lock = FolderLock(tmp_path)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=wait_for_end, args=(theirs,), daemon=True)
    child.start()
    assert ours.recv() == "begun"
    with pytest.raises(RunDirectoryError):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path)
    assert child.is_alive()
    ours.send("end")
    child.join()


def test_a_disk_without_locks_keeps_nobody_off(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    first = FolderLock(tmp_path)
    FolderLock(tmp_path)
    first.release()

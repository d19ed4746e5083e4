"""One process at a time may write to a folder."""

import errno
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from msdtool.lock import LOCK_NAME, InUseError, Lock

HOLD = """
import sys
from pathlib import Path
from msdtool.lock import LOCK_NAME, Lock
lock = Lock(Path(sys.argv[1]) / LOCK_NAME)
print("held", flush=True)
sys.stdin.read()
"""

TRY = """
import sys
from pathlib import Path
from msdtool.lock import LOCK_NAME, InUseError, Lock
try:
    Lock(Path(sys.argv[1]) / LOCK_NAME)
except InUseError:
    sys.exit(7)
"""


def hold_elsewhere(folder):
    """Start a process that holds the lock of a folder until its input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_a_folder_has_one_holder_until_that_lets_go(tmp_path):
    lock = Lock(tmp_path / LOCK_NAME)
    with pytest.raises(InUseError):
        Lock(tmp_path / LOCK_NAME)
    lock.release()
    lock.release()  # once is enough
    again = Lock(tmp_path / LOCK_NAME)
    with pytest.raises(InUseError):
        Lock(tmp_path / LOCK_NAME)
    del again
    Lock(tmp_path / LOCK_NAME)


def test_a_released_lock_leaves_nothing_behind(tmp_path):
    lock = Lock(tmp_path / LOCK_NAME)
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_kept_out_until_the_holder_ends(tmp_path):
    with hold_elsewhere(tmp_path) as holder:
        with pytest.raises(InUseError):
            Lock(tmp_path / LOCK_NAME)
        holder.stdin.close()
        holder.wait()
        Lock(tmp_path / LOCK_NAME)


def test_a_killed_process_holds_nothing(tmp_path):
    with hold_elsewhere(tmp_path) as holder:
        holder.kill()
        holder.wait()
        Lock(tmp_path / LOCK_NAME)
    assert list(tmp_path.iterdir()) == []


def wait_for_end(pipe):
    pipe.send("begun")
    pipe.recv()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked")
def test_a_forked_child_does_not_hold_what_its_parent_holds(tmp_path):
    """Processes that load images are forked while their parent holds the folder."""
    lock = Lock(tmp_path / LOCK_NAME)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=wait_for_end, args=(theirs,), daemon=True)
    child.start()
    assert ours.recv() == "begun"
    with pytest.raises(InUseError):
        Lock(tmp_path / LOCK_NAME)
    lock.release()
    Lock(tmp_path / LOCK_NAME)
    assert child.is_alive()
    ours.send("end")
    child.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked")
def test_a_child_that_ends_leaves_the_lock_to_its_parent(tmp_path):
    lock = Lock(tmp_path / LOCK_NAME)
    child = os.fork()
    if child == 0:
        del lock
        os._exit(0)
    os.waitpid(child, 0)
    assert subprocess.run([sys.executable, "-c", TRY, tmp_path], check=False).returncode == 7
    lock.release()
    assert subprocess.run([sys.executable, "-c", TRY, tmp_path], check=False).returncode == 0


def test_the_holder_is_named_and_its_trace_removed(tmp_path):
    lock = Lock(tmp_path / "new/folder/a.lock")
    with pytest.raises(InUseError) as error:
        Lock(tmp_path / "new/folder/a.lock")
    assert str(error.value) == f"process {os.getpid()} on {socket.gethostname()}"
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_came_into_use_stays(tmp_path):
    lock = Lock(tmp_path / "new/a.lock")
    (tmp_path / "new/result").touch()
    lock.release()
    assert names(tmp_path / "new") == ["result"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# File systems without locks ----------------------------------------------------------------------


@pytest.fixture
def no_flock(monkeypatch, request):
    """A file system whose locks the system does not know."""
    if sys.platform == "win32":
        pytest.skip("there is no flock")

    def unsupported(*_):
        code = getattr(request, "param", errno.ENOSYS)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", unsupported)
    monkeypatch.setattr("msdtool.lock.LEASE_SECONDS", 0.3)


@pytest.mark.parametrize("no_flock", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], indirect=True)
def test_without_locks_a_file_serves(tmp_path, no_flock):
    lock = Lock(tmp_path / "new/a.lock")
    assert names(tmp_path / "new") == ["a.lock.lease"]
    with pytest.raises(InUseError) as error:
        Lock(tmp_path / "new/a.lock")
    assert str(error.value) == f"process {os.getpid()} on {socket.gethostname()}"
    lock.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked")
def test_without_locks_too_a_killed_process_holds_nothing(tmp_path, no_flock):
    child = os.fork()
    if child == 0:
        try:
            lock = Lock(tmp_path / "a.lock")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert names(tmp_path) == ["a.lock.lease"]
    lock = Lock(tmp_path / "a.lock")
    lock.release()
    assert names(tmp_path) == []


def on_another_machine(lease):
    """Have the file of a lease say that another machine wrote it."""
    text = lease.read_text()
    lease.write_text(text.replace(f"host={socket.gethostname()}", "host=elsewhere"))


def test_a_silent_holder_on_another_machine_is_taken_for_gone(tmp_path, no_flock):
    lock = Lock(tmp_path / "a.lock")
    text = (tmp_path / "a.lock.lease").read_text()
    lock.release()
    (tmp_path / "a.lock.lease").write_text(text)
    on_another_machine(tmp_path / "a.lock.lease")
    Lock(tmp_path / "a.lock").release()
    assert names(tmp_path) == []


def test_a_holder_on_another_machine_that_refreshes_its_file_is_named(
    tmp_path, no_flock, monkeypatch
):
    monkeypatch.setattr("msdtool.lock.LEASE_SECONDS", 3.0)  # the thread below may be held up
    lease = tmp_path / "a.lock.lease"
    lock = Lock(tmp_path / "a.lock")
    text = lease.read_text()
    lock.release()
    lease.write_text(text)
    on_another_machine(lease)
    stop = threading.Event()

    def refresh():
        while not stop.wait(0.05):
            os.utime(lease)

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        with pytest.raises(InUseError, match=rf"^process {os.getpid()} on elsewhere$"):
            Lock(tmp_path / "a.lock")
    finally:
        stop.set()
        thread.join()
    assert names(tmp_path) == ["a.lock.lease"]


def test_a_folder_that_cannot_be_created_is_not_a_question_of_locks(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Lock(tmp_path / "file" / "folder" / LOCK_NAME)

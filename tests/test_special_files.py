"""What is no file though it has a name is refused, or read as far as it goes: never waited for."""

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from msdtool import special_files
from msdtool.config.yaml_file import read_yaml
from msdtool.data.readers import read_image
from msdtool.data.specifiers import Location, expand
from msdtool.errors import ConfigError, InputError
from msdtool.special_files import read_start

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "a.tif"
    os.mkfifo(path)
    return path


@pytest.fixture
def into(pipe):
    """Write into the pipe as another program would: once somebody reads."""
    threads = []

    def write(content):
        def run():
            with pipe.open("wb") as file:
                file.write(content)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield write
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy", ".h5", ".raw", ""])
def test_an_image_is_no_pipe(pipe, suffix):
    path = pipe.rename(pipe.with_suffix(suffix))
    with pytest.raises(InputError) as error:
        read_image(Location(path, shape=(2, 3), dtype="uint8"))
    assert error.value.message == (
        f"{path}: cannot be read: it is a pipe; save what it contains as a file"
    )


def test_an_image_is_no_device():
    with pytest.raises(InputError, match="/dev/zero: cannot be read: it is a device; save"):
        read_image(Location(Path("/dev/zero"), shape=(2, 3), dtype="uint8"))


def test_a_list_is_no_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("s")
        with pytest.raises(InputError, match="s: cannot be read: it is a socket; save"):
            expand("@s")


def test_a_config_may_come_from_a_pipe(pipe, into):
    into(b"task: regression\n" + b"# a long comment\n" * 10_000)
    assert read_yaml(pipe).tree == {"task": "regression"}


def test_a_list_may_come_from_a_pipe(tmp_path, pipe, into):
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    into("a.npy\n".encode("utf-16"))
    assert expand(f"@{pipe}") == [Location(tmp_path / "a.npy")]


def test_a_silent_pipe_is_not_waited_for(pipe, monkeypatch):
    monkeypatch.setattr(special_files, "SECONDS_TO_WAIT", 0.01)
    message = "cannot be read: it is a pipe, and nothing came for 0.01 s"
    with pytest.raises(ConfigError, match=f"{pipe}: {message}"):
        read_yaml(pipe)
    with pytest.raises(InputError, match=f"{pipe}: {message}"):
        expand(f"@{pipe}")


def test_of_an_endless_pipe_only_the_start_is_read(pipe):
    end = os.open(pipe, os.O_RDWR)  # the pipe never ends
    try:
        os.write(end, b"a" * 1000)
        assert read_start(pipe, 300) == b"a" * 300
    finally:
        os.close(end)

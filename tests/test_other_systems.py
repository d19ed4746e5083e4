"""What the library does where the system lacks what only POSIX has, as Windows does."""

import os

import numpy as np
import pytest
import torch

from msdtool import atomic
from msdtool.doctor.report import find_processors
from msdtool.ops.out_of_core.store import FileStore
from tests.helpers import write_stack

MISSING = (
    "fork", "preadv", "pwritev", "pread", "pwrite", "posix_fallocate", "sched_getaffinity",
    "getuid", "geteuid", "getloadavg", "register_at_fork",
)  # fmt: skip


@pytest.fixture
def bare(monkeypatch):
    for name in MISSING:
        monkeypatch.delattr(os, name, raising=False)


@pytest.mark.parametrize("format", ["tif", "npy", "h5"])
def test_results_are_the_same(bare, cli, regression_run, tmp_path, monkeypatch, format):
    images = write_stack(tmp_path / "in", np.random.default_rng(0).random((1, 20, 24), np.float32))
    contents = []
    for folder in ("bare", "full"):
        out = tmp_path / folder
        assert cli("predict", regression_run, images, "-o", out, "--format", format, "-q").code == 0
        (file,) = out.iterdir()
        contents.append(file.read_bytes())
        monkeypatch.undo()
    assert contents[0] == contents[1]


def test_channels_of_large_images_are_kept(bare, tmp_path):
    space = (4, 5, 6)
    store = FileStore(tmp_path / "channels", 3, space, torch.zeros(0))
    assert (tmp_path / "channels").stat().st_size == 3 * 4 * 5 * 6 * 4  # as if it were reserved
    pixels = torch.rand(3, *space)
    for channel in range(3):
        store.write(channel, 1, pixels[channel : channel + 1, 1:])
        store.write(channel, 0, pixels[channel : channel + 1, :1])
    found = torch.empty(2, 3, 5, 6)
    store.read(1, found)
    store.close()
    assert torch.equal(found, pixels[:2, 1:])


def test_processors_are_counted(bare):
    assert find_processors().found.startswith(f"{os.cpu_count()}, of which torch uses ")


def test_files_are_synced_and_folders_are_not(tmp_path, monkeypatch):
    """Windows syncs files that are open to be written, and no folders."""
    (tmp_path / "a").touch()
    opened = []
    real = os.open
    monkeypatch.setattr(atomic, "IS_WINDOWS", True)
    monkeypatch.setattr(os, "open", lambda *given: opened.append(given) or real(*given))
    atomic.sync(tmp_path)
    atomic.sync(tmp_path / "a")
    assert opened == [(tmp_path / "a", os.O_RDWR)]

import errno
import os
import pickle
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from msdtool.errors import Error, ModelFileError
from msdtool.runs import checkpoint as module
from msdtool.runs.checkpoint import find_model, load_checkpoint, save_checkpoint


def content(value=1.0):
    model = {
        "task": "segmentation",
        "architecture": {"c_in": 1, "dilations": [1, 2]},
        "state": {"a": torch.tensor([value, 1 / 3]), "b": torch.arange(3)},
        "normalisation": {"input_mean": [0.1], "data_range": 0.0, "label_counts": [1, 2]},
        "labels": [0, 255],
        "ignore": None,
        "collapse_channels": False,
        "slab": 2,
        "splits": 4,
        "strategy": "1:X",
    }
    return {
        "model": model,
        "config": {"task": "segmentation", "training": {"seed": 3}},
        "progress": {"epoch": 2, "best_loss": float("inf")},
        "metrics": {"iou": {"0": 0.25}},
        "versions": {"torch": "2"},
        "training": {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def test_what_is_saved_is_loaded_with_every_bit(tmp_path):
    path = tmp_path / "new" / "last.pt"
    save_checkpoint(path, content())
    assert same(load_checkpoint(path), content())


def test_what_an_earlier_version_did_not_write_has_its_meaning(tmp_path):
    earlier = content()
    for key in ("slab", "splits", "strategy"):
        del earlier["model"][key]
    save_checkpoint(tmp_path / "a.pt", earlier)
    model = load_checkpoint(tmp_path / "a.pt")["model"]
    assert (model["slab"], model["splits"], model["strategy"]) == (0, 0, "X:1")


def test_a_checkpoint_says_what_it_is_and_loads_without_this_package(tmp_path):
    save_checkpoint(tmp_path / "last.pt", content())
    raw = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (raw["format"], raw["version"]) == ("msdtool checkpoint", 1)


def break_half_way(path, data):
    with path.open("wb") as file:
        file.write(b"half of it")
    raise KeyboardInterrupt


def fill_disk(path, data):
    with path.open("wb") as file:
        file.write(b"half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("failure", "raised"), [(break_half_way, KeyboardInterrupt), (fill_disk, Error)]
)
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, failure, raised
):
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1.0))
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", failure)
    with pytest.raises(raised):
        save_checkpoint(path, content(2.0))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_failure_of_the_first_checkpoint_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(Error, match=r"last.pt: cannot be written: No space left.*--resume"):
        save_checkpoint(tmp_path / "last.pt", content())
    assert [file.name for file in tmp_path.iterdir()] == []


def test_the_file_is_whole_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync"), fsync(fd)))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))
    )
    save_checkpoint(tmp_path / "last.pt", content())
    assert calls[:2] == ["sync", "rename"]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_code_in_a_file_is_not_run(tmp_path):
    path, trap = tmp_path / "evil.pt", tmp_path / "trap"
    torch.save({"format": module.FORMAT, "version": 1, "model": Evil(str(trap))}, path)
    with pytest.raises(ModelFileError, match="holds something else than tensors and plain data"):
        load_checkpoint(path)
    assert not trap.exists()
    path.write_bytes(pickle.dumps(Evil(str(trap))))
    with pytest.raises(ModelFileError, match=re.escape(str(path))):
        load_checkpoint(path)
    assert not trap.exists()


@pytest.mark.parametrize("junk", [b"", b"hello", b"\x80\x04N.", b"PK\x03\x04" + bytes(40)])
def test_junk_is_not_a_checkpoint(tmp_path, junk):
    path = tmp_path / "junk.pt"
    path.write_bytes(junk)
    with pytest.raises(ModelFileError, match=r"junk.pt: not a checkpoint of msdtool"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_damaged(tmp_path, share):
    path = tmp_path / "last.pt"
    save_checkpoint(path, content())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelFileError, match="not a checkpoint of msdtool, or a damaged one"):
        load_checkpoint(path)


def test_weights_of_something_else_are_not_a_checkpoint(tmp_path):
    path = tmp_path / "resnet.pt"
    torch.save(OrderedDict(weight=torch.ones(3)), path)
    with pytest.raises(ModelFileError, match=r"resnet.pt: not a checkpoint of msdtool"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ModelFileError, match=r"resnet.pt: not a checkpoint of msdtool"):
        load_checkpoint(path)


def test_a_newer_checkpoint_asks_for_a_newer_program(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"format": module.FORMAT, "version": 2, **content()}, path)
    with pytest.raises(ModelFileError, match="version 2, this msdtool reads version 1; update"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("section", "key"), [(None, "progress"), (None, "model"), ("model", "state")]
)
def test_a_missing_part_is_named(tmp_path, section, key):
    path, damaged = tmp_path / "last.pt", content()
    del (damaged if section is None else damaged[section])[key]
    save_checkpoint(path, damaged)
    with pytest.raises(ModelFileError, match=f"is damaged, it has no {key}"):
        load_checkpoint(path)


def test_a_model_is_a_file_or_the_best_checkpoint_of_a_run(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    save_checkpoint(folder / "last.pt", content())
    assert find_model(tmp_path / "run") == folder / "last.pt"
    shutil.copy(folder / "last.pt", folder / "best.pt")
    assert find_model(str(tmp_path / "run")) == folder / "best.pt"
    assert find_model(folder / "last.pt") == folder / "last.pt"


def test_what_is_no_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(ModelFileError, match="no such run directory or checkpoint file"):
        find_model(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match=r"no checkpoint in this folder; expected .*best.pt"):
        find_model(tmp_path)
    with pytest.raises(ModelFileError, match="no such file"):
        load_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(ModelFileError, match="is a folder"):
        load_checkpoint(tmp_path)

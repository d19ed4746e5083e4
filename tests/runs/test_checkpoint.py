import errno
import os
import pickle
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from msdtool.architecture import Architecture
from msdtool.config import load_config
from msdtool.errors import Error, ModelFileError
from msdtool.nn.build import build_network
from msdtool.nn.from_config import plan_architecture
from msdtool.nn.msd import MSDModule
from msdtool.nn.scaling import ScaledNetwork
from msdtool.nn.yaml_layers.chain import plan_layer
from msdtool.nn.yaml_layers.registry import NORMS, make_layer, split
from msdtool.resources import resource_folder
from msdtool.runs import checkpoint as module
from msdtool.runs.checkpoint import find_model, load_checkpoint, save_checkpoint
from msdtool.runs.model import Checkpoint, Model, Normalisation, num_parameters
from msdtool.runs.training_progress import TrainingProgress
from tests.golden import runs


def make_checkpoint(value=1.0):
    architecture = Architecture(5, 2, 3, 1, (1, 2), ndim=2, padding="reflect")
    network = build_network(architecture)
    torch.nn.init.constant_(network.msd.final_layer.linear.weight, value / 3)
    model = Model.of(
        network,
        "segmentation",
        architecture,
        Normalisation((0.1,) * 5, (0.2,) * 5, (), (), 0.0, (1, 2)),
        labels=(0, 255),
        ignore=7,
        collapse_channels=True,
        slab=2,
        strategy="1:X",
    )
    return Checkpoint(
        model=model,
        config={"task": "segmentation", "training": {"seed": 3}},
        progress=TrainingProgress(epoch=2, step=3, batches=4, best_loss=float("inf")),
        metrics={"iou": {"0": 0.25}},
        versions={"torch": "2"},
        training={"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def test_what_is_saved_is_loaded_with_every_bit(tmp_path):
    path, checkpoint = tmp_path / "new" / "last.pt", make_checkpoint()
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    assert same(loaded.to_dict(), checkpoint.to_dict())
    assert loaded.model.architecture == checkpoint.model.architecture
    assert loaded.progress == checkpoint.progress


EARLIER = sorted(Path(runs.__file__).parent.glob("*/run/checkpoints/*.pt"))


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: f"{path.parts[-4]} {path.stem}")
def test_an_earlier_checkpoint_is_written_again_key_by_key(tmp_path, path):
    save_checkpoint(tmp_path / "again.pt", load_checkpoint(path))
    again, earlier = (torch.load(p, weights_only=True) for p in (tmp_path / "again.pt", path))
    newer = {"updates": 0, "norm_sum": 0.0}
    assert same(again, {**earlier, "progress": {**earlier["progress"], **newer}})


def test_what_an_earlier_version_did_not_write_has_its_meaning(tmp_path):
    content = make_checkpoint().to_dict()
    for key in ("slab", "splits", "strategy"):
        del content["model"][key]
    content["model"]["collapse_channels"] = False  # the five channels are those of an image
    torch.save(content, tmp_path / "a.pt")
    model = load_checkpoint(tmp_path / "a.pt").model
    assert (model.slab, model.splits, model.strategy) == (0, 0, "X:1")


def test_what_a_later_version_of_the_program_adds_is_left_out(tmp_path):
    checkpoint = make_checkpoint()
    content = checkpoint.to_dict()
    content["later"] = content["model"]["later"] = content["progress"]["later"] = 1
    torch.save(content, tmp_path / "a.pt")
    assert same(load_checkpoint(tmp_path / "a.pt").to_dict(), checkpoint.to_dict())


def test_a_checkpoint_says_what_it_is_and_loads_without_this_package(tmp_path):
    save_checkpoint(tmp_path / "last.pt", make_checkpoint())
    raw = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (raw["format"], raw["version"]) == ("msdtool checkpoint", 1)
    assert raw["model"]["architecture"]["dilations"] == [1, 2]


def test_a_model_of_a_network_has_its_state_and_what_is_usual_otherwise():
    network = ScaledNetwork(MSDModule(2, 1, 3, 1), 2, 1, ndim=2)
    architecture = Architecture(2, 1, 3, 1, (1,), ndim=2)
    statistics = Normalisation((0.0,), (1.0,), (0.0,), (1.0,), 1.0, ())
    model = Model.of(network, "regression", architecture, statistics)
    assert same(model.state, dict(network.state_dict()))
    assert (model.labels, model.ignore, model.collapse_channels) == ((), None, False)
    assert (model.slab, model.splits, model.strategy) == (0, 0, "X:1")


@pytest.mark.parametrize(
    "path", sorted(resource_folder("configs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_parameters_are_those_that_training_changes(path):
    config = load_config(path)
    space = (4, 14, 13) if config.network.ndim == 3 else (14, 13)
    c_in = 2 * config.data.slab + 1
    network = build_network(
        plan_architecture(config, c_in, config.num_labels or 1, config.crop_size or space)
    )
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert num_parameters(network.state_dict()) == trained


@pytest.mark.parametrize("name", NORMS)
def test_running_statistics_are_not_parameters(name):
    network = torch.nn.Sequential(
        make_layer(NORMS, name, split(plan_layer(NORMS, name, 3, 3, 2))[1])
    )
    trained = sum(p.numel() for p in network.parameters())
    assert num_parameters(network.state_dict()) == trained


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
    save_checkpoint(path, make_checkpoint(1.0))
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", failure)
    with pytest.raises(raised):
        save_checkpoint(path, make_checkpoint(2.0))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_failure_of_the_first_checkpoint_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(Error, match=r"last.pt: cannot be written: No space left.*resume"):
        save_checkpoint(tmp_path / "last.pt", make_checkpoint())
    assert [file.name for file in tmp_path.iterdir()] == []


def test_the_file_is_whole_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync"), fsync(fd)))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))
    )
    save_checkpoint(tmp_path / "last.pt", make_checkpoint())
    assert calls[:2] == ["sync", "rename"]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_code_in_a_file_is_not_run(tmp_path):
    path, trap = tmp_path / "evil.pt", tmp_path / "trap"
    torch.save({"format": module.FORMAT, "version": 1, "model": Evil(str(trap))}, path)
    with pytest.raises(ModelFileError, match="contains objects other than tensors and plain data"):
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
    save_checkpoint(path, make_checkpoint())
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
    torch.save({**make_checkpoint().to_dict(), "version": 2}, path)
    with pytest.raises(ModelFileError, match="version 2, this msdtool reads version 1; update"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("section", "key"), [(None, "progress"), (None, "model"), ("model", "state")]
)
def test_a_missing_part_is_named(tmp_path, section, key):
    path, damaged = tmp_path / "last.pt", make_checkpoint().to_dict()
    del (damaged if section is None else damaged[section])[key]
    torch.save(damaged, path)
    name = key if section is None else f"{section}.{key}"
    with pytest.raises(ModelFileError, match=f"is damaged: {name} is missing"):
        load_checkpoint(path)


def test_a_model_is_a_file_or_the_best_checkpoint_of_a_run(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    save_checkpoint(folder / "last.pt", make_checkpoint())
    assert find_model(tmp_path / "run") == folder / "last.pt"
    shutil.copy(folder / "last.pt", folder / "best.pt")
    assert find_model(str(tmp_path / "run")) == folder / "best.pt"
    assert find_model(folder / "last.pt") == folder / "last.pt"


def test_what_is_not_a_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(ModelFileError, match="no such run directory or checkpoint file"):
        find_model(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match=r"no checkpoint in this folder; expected .*best.pt"):
        find_model(tmp_path)
    with pytest.raises(ModelFileError, match="no such file"):
        load_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(ModelFileError, match="is a folder"):
        load_checkpoint(tmp_path)

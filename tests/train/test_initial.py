"""Training starts from another network. What its file holds is read by torch alone."""

import hashlib
import shutil
from contextlib import closing

import numpy as np
import pytest
import tifffile
import torch
import yaml

from msdtool.check import check
from msdtool.config import load_config
from msdtool.errors import ConfigError, ModelFileError, RunDirectoryError
from msdtool.runs.checkpoint import load_checkpoint
from tests.conftest import train
from tests.helpers import LABELS, write_experiment, write_labelled_pairs, write_noisy_pairs
from tests.train.running import check_same, finish, open_run

CONTEXT = ["ContextEncoding", {"ConvLayer": {"ks": 1, "norm_type": None, "act_cls": None}}]
LAYERS = {
    "stem": [{"ConvLayer": {"nf": 3}}],
    "activation": "Mish",
    "norm": "SyncBatchNorm",
    "features": 4,
    "head": CONTEXT,
}


@pytest.fixture(scope="module")
def initial(tmp_path_factory):
    """A run of a regression."""
    folder = tmp_path_factory.mktemp("initial")
    data = {"train": write_noisy_pairs(folder / "train", 2, (12, 12))}
    return train(write_experiment(folder / "config.yaml", {"data": data}))


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    """A run with layers around and inside the network."""
    folder = tmp_path_factory.mktemp("layered")
    data = {"train": write_noisy_pairs(folder / "train", 2, (12, 12))}
    sections = {"data": data, "network": LAYERS, "training": {"batch_size": 2}}
    return train(write_experiment(folder / "config.yaml", sections))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, initial):
    """A config that starts from `initial`, on images in another unit."""
    folder = tmp_path_factory.mktemp("tuned")
    pairs = write_noisy_pairs(folder / "train", 3, (12, 12), seed=5)
    for path in (folder / "train").rglob("*.tif"):
        tifffile.imwrite(path, 100 * tifffile.imread(path) + 7, photometric="minisblack")
    shutil.copytree(initial, folder / "first")
    return write_experiment(
        folder / "config.yaml", {"data": {"train": pairs}, "training": {"initial": "first"}}
    )


def stored(run):
    """The weights in a run's best checkpoint, as its file has them."""
    return torch.load(run / "checkpoints" / "best.pt", weights_only=True)["model"]["state"]


def state(run):
    return run.network.state_dict()


def of_task(folder, task, initial, **network):
    """A config of another task, with as many outputs as it has labels, or three channels."""
    pairs = write_labelled_pairs(folder / "train", 2, (12, 12), seed=3)
    data = {"train": pairs, "labels": LABELS}
    if task == "regression":
        data = {"train": write_noisy_pairs(folder / "train", 2, (12, 12), seed=3)}
        for path in (folder / "train" / "clean").glob("*.tif"):
            image = np.stack([tifffile.imread(path)] * 3)
            tifffile.imwrite(path, image, photometric="minisblack", metadata={"axes": "CYX"})
    training = {"initial": str(initial)}
    sections = {"task": task, "data": data, "training": training, "network": network}
    return write_experiment(folder / "config.yaml", sections)


def problem(config, *overrides, error=ConfigError):
    with pytest.raises(error) as raised:
        open_run(config, *overrides)
    return raised.value.message


def stop_at(run, count):
    """End a run, as a kill would, at an event."""
    with closing(run.events()) as events:
        for _ in range(count):
            next(events)


# Weights and scaling -------------------------------------------------------------------------


def test_all_trained_weights_are_those_of_the_initial_file(tuned, initial, tmp_path):
    found = state(open_run(tuned, f"run.directory={tmp_path}/run"))
    for name, tensor in stored(initial).items():
        assert torch.equal(found[name], tensor) == (not name.startswith("scale_")), name


def test_images_are_scaled_as_the_new_training_set_needs_it(tuned, tmp_path):
    run = open_run(tuned, f"run.directory={tmp_path}/run")
    for kind, layer in (("noisy", "scale_in"), ("clean", "scale_out")):
        files = sorted((tuned.parent / "train" / kind).glob("*.tif"))
        values = np.stack([tifffile.imread(file) for file in files]).astype(np.float64)
        weight, bias = state(run)[f"{layer}.weight"].item(), state(run)[f"{layer}.bias"].item()
        mean, std = (-bias / weight, 1 / weight) if kind == "noisy" else (bias, weight)
        assert (mean, std) == pytest.approx((values.mean(), values.std()), rel=1e-5)


def test_or_as_the_initial_network_scales_them(tuned, initial, tmp_path):
    keep = "training.initial_normalisation=keep"
    run = open_run(tuned, f"run.directory={tmp_path}/run", keep)
    found, expected = state(run), stored(initial)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    first = torch.load(initial / "checkpoints" / "best.pt", weights_only=True)["model"]
    kept, before = run.record.normalisation.to_dict(), first["normalisation"]
    for key in ("input_mean", "input_std", "target_mean", "target_std"):
        assert kept[key] == before[key]
    assert kept["data_range"] == pytest.approx(100 * before["data_range"], rel=0.5)


@pytest.mark.parametrize("task", ["segmentation", "regression"])
@pytest.mark.parametrize("how", ["measure", "keep"])
def test_other_outputs_get_a_new_final_layer(initial, task, how, tmp_path):
    config = of_task(tmp_path, task, initial)
    run = open_run(config, f"training.initial_normalisation={how}")
    found, expected = state(run), stored(initial)
    for name, tensor in expected.items():
        if name.startswith("msd.msd_block."):
            assert torch.equal(found[name], tensor)
    assert found["msd.final_layer.linear.weight"].shape == (3, 4, 1)
    assert not found["msd.final_layer.linear.weight"].any()
    assert torch.equal(found["scale_in.bias"], expected["scale_in.bias"]) == (how == "keep")
    assert len(run.record.normalisation.target_mean) == (3 if task == "regression" else 0)
    what = "3 labels" if task == "segmentation" else "3 output channels"
    log = run.directory.log_file.read_text()
    assert f"for regression, 1 output channels; this experiment has {what}: the final l" in log
    finish(run)
    load_checkpoint(run.directory.best)  # it is consistent


def test_layers_around_and_inside_start_with_their_weights_and_statistics(layered, tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "train", 2, (12, 12))}
    training = {"initial": str(layered), "batch_size": 2}
    sections = {"data": data, "network": LAYERS, "training": training}
    found = state(open_run(write_experiment(tmp_path / "config.yaml", sections)))
    for name, tensor in stored(layered).items():
        assert torch.equal(found[name], tensor) or name.startswith("scale_"), name
    assert any(name.endswith("running_mean") and t.any() for name, t in found.items())


def test_a_head_for_other_outputs_is_new(layered, tmp_path):
    config = of_task(tmp_path, "segmentation", layered, **{**LAYERS, "features": 5})
    found = state(open_run(config, "training.batch_size=2"))
    expected = stored(layered)
    assert torch.equal(found["stem.0.0.weight"], expected["stem.0.0.weight"])
    assert found["msd.final_layer.linear.weight"].shape[0] == 5
    frozen = problem(config, "training.freeze=[head]", f"run.directory={tmp_path}/other")
    assert "training.freeze: head: it is new, since training.initial was made for regr" in frozen


def test_labels_with_other_values_keep_the_final_layer(tmp_path):
    data = {"train": write_labelled_pairs(tmp_path / "train", 2, (12, 12)), "labels": LABELS}
    sections = {"task": "segmentation", "data": data}
    first = train(write_experiment(tmp_path / "first.yaml", sections))
    for path in (tmp_path / "train" / "labels").glob("*.tif"):
        labels = np.searchsorted(LABELS, tifffile.imread(path)).astype(np.uint8)
        tifffile.imwrite(path, labels, photometric="minisblack")
    sections = {**sections, "data": {**data, "labels": 3}, "training": {"initial": str(first)}}
    config = write_experiment(tmp_path / "config.yaml", sections)
    run = open_run(config, f"run.directory={tmp_path}/second")
    name = "msd.final_layer.linear.weight"
    assert torch.equal(state(run)[name], stored(first)[name])
    assert "[0, 127, 255]; the same outputs now stand for [0, 1, 2]" in (
        run.directory.log_file.read_text()
    )


# What is recorded ----------------------------------------------------------------------------


def test_the_run_names_the_file_and_its_digest(tuned, initial, tmp_path):
    directory = finish(open_run(tuned, f"run.directory={tmp_path}/run"))
    file = tuned.parent / "first" / "checkpoints" / "best.pt"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    training = yaml.safe_load(directory.config.read_text())["training"]
    assert training["initial"] == str(tuned.parent / "first")
    assert training["initial_sha256"] == digest
    for path in (directory.last, directory.best):
        assert load_checkpoint(path).config["training"]["initial_sha256"] == digest
    log = directory.log_file.read_text()
    assert f"starting from {file}, SHA-256 {digest}" in log
    first = torch.load(file, weights_only=True)["model"]["normalisation"]
    assert f"those of the initial network had {first['input_mean'][0]:.4g} and" in log


def test_a_run_resumes_bit_for_bit_without_the_initial_file(tuned, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(tuned.parent, folder)
    config = folder / "config.yaml"
    text = config.read_text().replace(str(tuned.parent), str(folder))
    config.write_text(text.replace("epochs: 2", "epochs: 2\n  freeze: [{block: 2}]"))
    whole = finish(open_run(config, f"run.directory={tmp_path}/whole"))
    every = "training.checkpoint_every=1.0e-9"
    places = [f"run.directory={tmp_path}/stopped{count}" for count in (2, 5)]
    for count, place in zip((2, 5), places, strict=True):
        stop_at(open_run(config, place, every), count)
    shutil.rmtree(folder / "first")
    for place in places:
        check_same(finish(open_run(config, place, every, resume=True)), whole)
    with pytest.raises(RunDirectoryError, match=r"other values of training\.initial;"):
        open_run(config, place, every, f"training.initial={tmp_path}", resume=True)


def test_a_moved_project_resumes(tuned, tmp_path):
    for name in ("here", "there"):
        shutil.copytree(tuned.parent, tmp_path / "here", dirs_exist_ok=True)
        text = tuned.read_text().replace(str(tuned.parent), str(tmp_path / name))
        (tmp_path / "here" / "config.yaml").write_text(text)
        if name == "here":
            every = "training.checkpoint_every=1.0e-9"
            stop_at(open_run(tmp_path / "here" / "config.yaml", every), 2)
    (tmp_path / "here").rename(tmp_path / "there")
    run = open_run(tmp_path / "there" / "config.yaml", every, resume=True)
    assert run.learner.progress.step


def test_another_file_than_the_expected_one_is_refused(tuned, tmp_path):
    told = problem(tuned, f"run.directory={tmp_path}/run", f"training.initial_sha256={'ab' * 32}")
    assert "training.initial_sha256: " in told
    assert "it is another network; restore the one that was meant, or remove this key" in told


# What does not fit ---------------------------------------------------------------------------


def test_all_that_differs_is_told_with_file_and_line(tuned, tmp_path):
    sections = yaml.safe_load(tuned.read_text())
    del sections["network"]
    network = "network: {depth: 4, width: 2, padding: zeros, activation: Mish}"
    other = tuned.parent / "other.yaml"
    other.write_text(f"{network}\n{yaml.safe_dump(sections)}")
    told = problem(other, f"run.directory={tmp_path}/run").split("\n")
    best = tuned.parent / "first" / "checkpoints" / "best.pt"
    assert told == [
        f"{other}:1: network.{key}: got {got}; training.initial, {best}, has {has}"
        for key, got, has in (
            ("depth", 4, 3),
            ("width", 2, 1),
            ("padding", "zeros", "symmetric"),
            ("activation", "'Mish'", "'ReLU'"),
        )
    ]
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.dilations=[1, 2]", "network.dilations: got [1, 2]; "),
        ("network.head=[ReLU]", "network.head: got ["),
        ("data.slab=1", "data.slab: got 1; "),
        ("network.stem=[{ConvLayer: {nf: 2}}]", "network.stem: got [{'ConvLayer'"),
    ],
)
def test_each_key_that_does_not_fit_is_named(tuned, override, message, tmp_path):
    assert message in problem(tuned, f"run.directory={tmp_path}/run", override)


def test_dilations_that_are_written_otherwise_fit(tuned, tmp_path):
    open_run(tuned, f"run.directory={tmp_path}/run", "network.dilations=[1, 2, 3, 9]")


def test_inputs_of_other_channels_do_not_fit(initial, tmp_path):
    pairs = write_noisy_pairs(tmp_path / "train", 2, (12, 12))
    for path in (tmp_path / "train" / "noisy").glob("*.tif"):
        image = np.stack([tifffile.imread(path)] * 2)
        tifffile.imwrite(path, image, photometric="minisblack", metadata={"axes": "CYX"})
    training = {"initial": str(initial)}
    config = write_experiment(tmp_path / "c.yaml", {"data": {"train": pairs}, "training": training})
    assert "data.train: got inputs of 2 channels; training.initial" in problem(config)


def test_other_splits_do_not_fit(tmp_path):
    images = [write_noisy_pairs(tmp_path / str(k), 2, (12, 12), seed=k)["input"] for k in range(3)]
    sections = {"data": {"train": {"splits": images}}}
    first = train(write_experiment(tmp_path / "first.yaml", sections))
    sections = {"data": {"train": {"splits": images[:2]}}, "training": {"initial": str(first)}}
    config = write_experiment(tmp_path / "config.yaml", sections)
    told = problem(config, f"run.directory={tmp_path}/other")
    assert "data.train.splits: got 2 splits, strategy X:1; " in told
    assert told.endswith("was trained on 3 splits, strategy X:1")


def test_series_do_not_fit_a_network_of_volumes(tmp_path):
    pairs = write_noisy_pairs(tmp_path / "train", 1, (8, 8, 8))
    network = {"ndim": 3, "dilations": [1]}
    sections = {"data": {"train": pairs}, "network": network}
    first = train(write_experiment(tmp_path / "first.yaml", sections))
    sections |= {"stream": {"axis": 1}, "training": {"initial": str(first)}}
    config = write_experiment(tmp_path / "config.yaml", sections)
    told = problem(config, f"run.directory={tmp_path}/other")
    assert "stream: got works on image sequences along axis 1; " in told
    assert told.endswith("works on images")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such run directory or checkpoint file"), (b"junk", "not a checkpoint of msdtool")],
)
def test_a_file_that_cannot_be_read_is_named_with_its_key(tuned, content, message, tmp_path):
    path = tmp_path / "initial.pt"
    if content is not None:
        path.write_bytes(content)
    overrides = [f"run.directory={tmp_path}/run", f"training.initial={path}"]
    told = problem(tuned, *overrides, error=ModelFileError)
    assert f"training.initial: {path}: {message}" in told
    report = check(load_config(tuned, overrides))
    assert [message in found for found in report.problems] == [True]

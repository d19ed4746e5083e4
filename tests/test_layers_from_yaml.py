"""Experiments with layers around and inside the network, from the config to the prediction."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from msdtool.check import check
from msdtool.config import load_config
from msdtool.data import ImageDataset
from msdtool.errors import ConfigError, InputError
from msdtool.evaluate import evaluate, open_pairs
from msdtool.predict import Predictor
from msdtool.train.prepare import prepare_run

from .helpers import write_experiment, write_labelled_pairs, write_noisy_pairs

KERNEL = {"QuadraticKernelIso2D": {"kernel_size": 3, "init": {"var": 1000.0}}}

NETWORKS = {
    "closing": {"head": [{"GenericClosing": {"kernel": KERNEL}}]},
    "context": {
        "features": 4,
        "head": ["ContextEncoding", {"ConvLayer": {"ks": 1, "norm_type": None, "act_cls": None}}],
    },
    "stem": {"stem": [{"ConvLayer": {"nf": 3, "norm_type": "Instance"}}, "SyncBatchNorm"]},
    "semifield": {
        "operation": {
            "GenericConv": {"kernel": KERNEL, "conv": {"SubtractSemifield.log": {"mu": 1}}}
        }
    },
    "inside": {"activation": "Mish", "norm": "SyncBatchNorm"},
}


def train(config, *overrides):
    run = prepare_run(load_config(config, overrides))
    for _ in run.events():
        pass
    return run


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("closing", "regression"),
        ("context", "segmentation"),
        ("stem", "segmentation"),
        ("semifield", "regression"),
        ("inside", "segmentation"),
    ],
)
def test_a_checkpoint_rebuilds_the_network_that_was_trained(name, task, tmp_path):
    write = write_labelled_pairs if task == "segmentation" else write_noisy_pairs
    data = {"train": write(tmp_path / "train", 3), "validation": {"fraction": 0.3}}
    if task == "segmentation":
        data["labels"] = [0, 127, 255]
    sections = {"task": task, "data": data, "network": NETWORKS[name]}
    if task == "segmentation":
        sections["training"] = {"loss": "dice"}
    run = train(write_experiment(tmp_path / "config.yaml", sections))
    predictor = Predictor.load(run.directory.path)
    x = torch.randn(1, 1, 17, 19)
    run.network.eval()
    with torch.no_grad():
        assert torch.equal(predictor.network(x), run.network(x))
    moved = [
        key
        for key, value in run.network.named_parameters()
        if value.requires_grad and value.grad is not None and value.grad.any()
    ]
    assert any(key.startswith(("head", "stem", "msd.layers")) for key in moved)


@pytest.fixture
def enlarging(tmp_path):
    """An experiment whose targets are twice as large as its inputs."""
    rng = np.random.default_rng(0)
    for part in ("in", "out"):
        (tmp_path / part).mkdir()
    for number in range(3):
        image = rng.normal(size=(20, 24)).astype(np.float32)
        tifffile.imwrite(tmp_path / "in" / f"{number}.tif", image)
        tifffile.imwrite(tmp_path / "out" / f"{number}.tif", np.kron(image, np.ones((2, 2), "f4")))
    sections = {
        "data": {
            "train": {"input": str(tmp_path / "in"), "target": str(tmp_path / "out")},
            "validation": {"fraction": 0.3, "patch": 12},
            "crop": 16,
            "augment": True,
        },
        "network": {
            "features": 4,
            "head": [{"PixelShuffle_ICNR": {"scale": 2, "act_cls": None}}],
        },
        "training": {"batch_size": 2, "epochs": 30, "learning_rate": 0.1},
        "run": {"directory": "run", "previews": True},
    }
    return write_experiment(tmp_path / "config.yaml", sections)


def test_images_can_be_made_larger(enlarging, cli):
    folder = enlarging.parent
    assert check(load_config(enlarging)).problems == []
    run = train(enlarging)
    predictor = Predictor.load(run.directory.path)
    image = predictor.open_inputs([folder / "in" / "0.tif"])[0].read(0)
    assert predictor(image).shape == (1, 40, 48)
    pairs = open_pairs(predictor, [str(folder / "in")], str(folder / "out"), None)
    assert evaluate(predictor, pairs).output["mse"] < 0.1
    result = cli("predict", run.directory.path, folder / "in", "-o", folder / "results")
    assert result.code == 0, result.err
    assert tifffile.imread(folder / "results" / "2.tif").shape == (40, 48)


def test_targets_of_a_size_that_the_network_does_not_give_are_refused(enlarging):
    text = enlarging.read_text()
    plain = enlarging.with_name("plain.yaml")
    plain.write_text(text.replace("scale: 2", "scale: 3"))
    message = r"plain.yaml:\d+: network.head: .* 3 times as large as.* the targets are 2 times"
    with pytest.raises(ConfigError, match=message):
        prepare_run(load_config(plain))
    (problem,) = check(load_config(plain)).problems
    assert "the targets are 2 times as large" in problem


def test_images_that_should_not_be_larger_are_refused(enlarging):
    text = enlarging.read_text()
    folder = enlarging.parent
    enlarging.write_text(text.replace(str(folder / "out"), str(folder / "in")))
    (problem,) = check(load_config(enlarging)).problems
    assert problem.endswith("are 1 times as large; leave out the layers that enlarge them")


def test_pairs_of_another_scale_cannot_be_evaluated(enlarging):
    folder = enlarging.parent
    predictor = Predictor.load(train(enlarging, "training.epochs=1").directory.path)
    pairs = ImageDataset(str(folder / "in"), str(folder / "in"))
    with pytest.raises(
        InputError, match=r"target is 1 times as large.*outputs of the model are 2 times"
    ):
        evaluate(predictor, pairs)


def test_layers_that_do_not_fit_are_told_before_anything_is_written(enlarging):
    enlarging.write_text(enlarging.read_text().replace("PixelShuffle_ICNR", "PixelShuffel"))
    with pytest.raises(
        ConfigError, match=r"config.yaml:\d+: network.head\[0\]: PixelShuffel is no"
    ):
        prepare_run(load_config(enlarging))
    assert not (enlarging.parent / "run").exists()


SIZES = {
    "attention": (
        (300, 300),
        {"stem": [{"ConvLayer": {"nf": 2}}, "SelfAttention"]},
        r"network.stem\[1\].SelfAttention: .*300 x 300 pixels, 1 at a time.*GiB",
    ),
    "odd": (
        (23, 31),
        {
            "stem": [{"ConvLayer": {"nf": 2, "stride": 2}}],
            "features": 4,
            "head": [{"PixelShuffle_ICNR": {"scale": 2}}],
        },
        r"network.head\[0\]: turns images of 23 x 31 pixels into 24 x 32",
    ),
    "fixed": (
        (24, 32),
        {"head": [{"AdaptiveAvgPool": {"sz": [16, 16]}}]},
        r"network.head\[0\]: turns images of 24 x 32 pixels into 16 x 16",
    ),
    "scale": (
        (8, 8),
        {"head": [{"AdaptiveAvgPool": {"sz": [16, 16]}}]},
        r"network.head: outputs images 2 times as large as inputs of 8 x 8",
    ),
    "dilations": (
        (4, 8),
        {"stem": [{"ConvLayer": {"nf": 2, "stride": 2}}], "head": ["PixelShuffle_ICNR"]},
        r"network.dilations: dilation 3 .* size 2: .*after the stem reduces 4 x 8",
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_layers_are_tried_on_whole_validation_images(name, tmp_path):
    size, network, message = SIZES[name]
    sections = {
        "data": {
            "train": write_noisy_pairs(tmp_path / "train", 2),
            "validation": write_noisy_pairs(tmp_path / "validation", 2, size),
            "crop": 16,
        },
        "network": network,
    }
    config = load_config(write_experiment(tmp_path / "config.yaml", sections))
    (problem,) = check(config).problems
    assert re.search(message, problem)
    with pytest.raises(ConfigError, match=r"config.yaml:\d+: " + message):
        prepare_run(config)
    assert not (tmp_path / "run").exists()
    patched = load_config(tmp_path / "config.yaml", ["data.validation.patch=16"])
    if min(size) >= 16:
        assert check(patched).problems == []


def test_layers_are_tried_on_all_training_images(tmp_path):
    train = write_noisy_pairs(tmp_path / "train", 2, (16, 16))
    write_noisy_pairs(tmp_path / "other", 1, (23, 16))
    for kind in ("input", "target"):
        source = Path(train[kind])
        shutil.copy(tmp_path / "other" / source.name / "image_000.tif", source / "image_002.tif")
    network = {**SIZES["odd"][1], "padding": "zeros"}
    sections = {"data": {"train": train}, "network": network, "training": {"batch_size": 1}}
    config = load_config(write_experiment(tmp_path / "config.yaml", sections))
    with pytest.raises(ConfigError, match="turns images of 23 x 16 pixels into 24 x 16"):
        prepare_run(config)

"""Noise2Inverse from the command line, on volumes, with slabs."""

import json

import numpy as np
import pytest
import tifffile
import torch

from msdtool.predict import Predictor

from ..conftest import train
from ..helpers import smooth_image, write_experiment

K = 3
SHAPE = (6, 20, 24)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A run on three splits of a volume; the splits and the clean volume lie beside it."""
    folder = tmp_path_factory.mktemp("scan")
    rng = np.random.default_rng(0)
    clean = smooth_image(SHAPE, rng).astype(np.float32)
    splits = [clean + rng.normal(0, 1, SHAPE).astype(np.float32) for _ in range(K)]
    for name, volume in {"clean": clean, **{f"split_{k}": v for k, v in enumerate(splits)}}.items():
        tifffile.imwrite(folder / f"{name}.tif", volume, photometric="minisblack")
    data = {
        "train": {"splits": [f"split_{k}.tif" for k in range(K)]},
        "validation": {"slices": [4, 6]},
        "slab": 1,
        "augment": True,
    }
    train(write_experiment(folder / "a.yaml", {"data": data, "training": {"epochs": 1}}))
    return folder


def split_files(folder):
    return [folder / f"split_{k}.tif" for k in range(K)]


def expected(folder):
    """The mean of the network's outputs for the mean of all splits but one, slab by slab."""
    predictor = Predictor.load(folder / "run", "cpu")
    splits = np.stack([tifffile.imread(file) for file in split_files(folder)])
    results = []
    for z in range(SHAPE[0]):
        above, below = abs(z - 1), min(z + 1, 2 * (SHAPE[0] - 1) - z - 1)
        outputs = []
        for k in range(K):
            slab = np.delete(splits, k, axis=0)[:, [above, z, below]].mean(axis=0, dtype=np.float64)
            outputs.append(predictor(torch.from_numpy(slab.astype(np.float32))).numpy()[0])
        results.append(np.mean(outputs, axis=0))
    return np.stack(results)


def test_a_check_shows_the_splits(cli, scan):
    found = json.loads(cli("check", scan / "a.yaml", "--json").out)
    assert found["problems"] == found["warnings"] == []
    assert [name for name in found["stacks"] if name.startswith("train")] == [
        f"train split {k}" for k in (1, 2, 3)
    ]
    assert found["pairs"]["train"][0] == [
        f"{scan}/split_1.tif[0] (mean with 1 more)", f"{scan}/split_0.tif[0]",
    ]  # fmt: skip


def test_the_mean_over_the_splits_is_predicted(cli, scan, tmp_path):
    result = cli("predict", scan / "run", *split_files(scan), "--splits", "-o", tmp_path)
    assert (result.code, result.out) == (0, f"{tmp_path}/split.tif\n")
    found = tifffile.imread(tmp_path / "split.tif")
    np.testing.assert_allclose(found, expected(scan), rtol=1e-5, atol=1e-5)


def test_a_pattern_may_name_a_file_for_each_split(cli, scan, tmp_path):
    options = ("--splits", "--quiet", "-o", tmp_path / "one.tif")
    assert cli("predict", scan / "run", *split_files(scan), *options).code == 0
    options = ("--splits", "--quiet", "-o", tmp_path / "two.tif")
    assert cli("predict", scan / "run", scan / "split_*.tif", *options).code == 0
    one, two = (tifffile.imread(tmp_path / f"{name}.tif") for name in ("one", "two"))
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("split_[01].tif", "is of 2 files; give an INPUT"), ("clean.tif", "is of 1 file; give an")],
)
def test_one_split_alone_is_refused(cli, scan, tmp_path, pattern, words):
    result = cli("predict", scan / "run", scan / pattern, "--splits", "-o", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert f"--splits: the network was trained on 3 splits, and {scan / pattern} {words}" in (
        result.err
    )


def test_splits_are_of_networks_that_were_trained_on_them(cli, regression_run, scan, tmp_path):
    image = scan / "clean.tif"
    result = cli("predict", regression_run, image, "--splits", "-o", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "--splits: the network was not trained on splits; leave it out" in result.err


def test_without_splits_each_reconstruction_is_denoised_by_itself(cli, scan, tmp_path):
    result = cli("predict", scan / "run", scan / "split_0.tif", "-o", tmp_path)
    assert result.code == 0 and (
        "the network was trained on 3 splits; each input is treated as a separate reconstruction, "
        "--splits averages over splits" in result.err
    )
    predictor = Predictor.load(scan / "run", "cpu")
    slab = torch.from_numpy(tifffile.imread(scan / "split_0.tif")[1:4])
    found = tifffile.imread(tmp_path / "split_0.tif")
    np.testing.assert_allclose(found[2], predictor(slab).numpy()[0], rtol=1e-5, atol=1e-5)


def test_the_mean_is_evaluated_beside_the_mean_of_the_splits(cli, scan):
    inputs = [item for file in split_files(scan) for item in ("--input", file)]
    result = cli("evaluate", scan / "run", *inputs, "--target", scan / "clean.tif", "--json")
    found = json.loads(result.out)
    clean = tifffile.imread(scan / "clean.tif").astype(np.float64)
    mean = np.mean([tifffile.imread(file) for file in split_files(scan)], axis=0)
    for kind, volume in (("output", expected(scan)), ("input", mean)):
        assert found[kind]["mse"] == pytest.approx(np.mean((volume - clean) ** 2), rel=1e-4)
    assert len(found["images"]) == SHAPE[0]


def test_the_evaluation_of_one_split_says_that_there_are_others(cli, scan):
    one = ["--input", scan / "split_0.tif", "--target", scan / "clean.tif"]
    result = cli("evaluate", scan / "run", *one)
    assert result.code == 0
    assert "was trained on 3 splits; each input is treated as a separate" in result.err
    assert "--input once per split averages over them" in result.err


def test_another_number_of_splits_is_refused(cli, scan, tmp_path):
    two = split_files(scan)[:2]
    for command in (
        ("predict", scan / "run", *two, "--splits", "-o", tmp_path),
        ("evaluate", scan / "run", "--input", two[0], "--input", two[1], "--target", two[0]),
    ):
        result = cli(*command)
        assert (result.code, result.out) == (3, "")
        assert result.err.startswith("error: the network was trained on 3 splits: give one ")


# The demo, in miniature ------------------------------------------------------------------------

SMALLER = {"SIZE": 48, "NUM_SLICES": 20, "NUM_BUBBLES": 20, "VIEWS": 64, "RADIUS": (3.0, 8.0)}
SHORTER = ["network.depth=10", "training.epochs=12", "training.learning_rate=0.01", "data.crop=40"]


def test_the_demo_denoises_a_scan_with_nothing_but_itself(cli, tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    for name, value in SMALLER.items():
        monkeypatch.setattr(f"msdtool.demo.foam.{name}", value)
    folder = tmp_path / "foam"
    written = cli("demo", "noise2inverse", "-o", folder, "--quiet")
    assert written == (0, f"{folder}/noise2inverse.yaml\n", "")
    overrides = [item for change in SHORTER for item in ("--set", change)]
    assert cli("check", folder / "noise2inverse.yaml", *overrides, "--quiet").code == 0
    trained = cli("train", folder / "noise2inverse.yaml", *overrides, "--quiet")
    assert trained == (0, f"{folder}/run/checkpoints/best.pt\n", "")

    splits = [folder / f"split_{k}.tif" for k in (1, 2, 3, 4)]
    out = tmp_path / "out"
    predicted = cli("predict", folder / "run", *splits, "--splits", "-o", out, "--quiet")
    assert predicted == (0, f"{out}/split.tif\n", "")
    inputs = [item for split in splits for item in ("--input", split)]
    target = ["--target", folder / "clean.tif"]
    result = cli("evaluate", folder / "run", *inputs, *target, "--json", "--quiet")
    found = json.loads(result.out)
    clean, cleaned = tifffile.imread(folder / "clean.tif"), tifffile.imread(out / "split.tif")
    mean = np.mean([tifffile.imread(split) for split in splits], axis=0)
    error, noise = (np.mean((volume - clean) ** 2) for volume in (cleaned, mean))
    assert found["output"]["mse"] == pytest.approx(error, rel=1e-4)
    assert found["input"]["mse"] == pytest.approx(noise, rel=1e-4)
    print("RATIO", noise / error)
    assert error < noise / 3

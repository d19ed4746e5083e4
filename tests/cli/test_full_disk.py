"""A disk that is full: one clear message, and what was there before stays."""

import shutil

import numpy as np
import pytest
import tifffile

from ..helpers import full_disk, small_disk, write_experiment, write_noisy_pairs, write_stack
from .conftest import BEGUN, contents


@pytest.fixture
def tiny_disk(tmp_path):
    with small_disk(tmp_path / "disk", 256 * 1024):
        yield tmp_path / "disk"


@pytest.fixture
def config(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "t", 2)}
    return write_experiment(tmp_path / "a.yaml", {"data": data})


def test_no_room_for_the_first_checkpoint(refused, config, tmp_path):
    with full_disk():
        found = refused("train", config, code=1, leaves=BEGUN)
    assert found == f"{tmp_path}/run/checkpoints/last.pt: cannot be written: File too large"


def test_no_room_for_the_next_checkpoint(cli, refused, config, tmp_path):
    assert cli("train", config).code == 0
    options = ["--resume", "--set", "training.epochs=3", "--quiet"]
    checkpoints = contents(tmp_path / "run/checkpoints")
    assert set(checkpoints) == {"last.pt", "best.pt"}
    with full_disk():
        result = cli("train", config, *options)
    assert (result.code, result.err) == (
        1,
        f"error: {tmp_path}/run/checkpoints/last.pt: cannot be written: File too large\n",
    )
    assert contents(tmp_path / "run/checkpoints") == checkpoints


def test_the_run_resumes_when_there_is_room_again(cli, config, tmp_path):
    """And ends with the weights of a run that had room all the time."""
    constant = ["--set", "training.schedule=constant"]  # the others depend on when they end
    cli("train", config, *constant)
    options = ["--set", "training.epochs=4", *constant]
    with full_disk():
        assert cli("train", config, "--resume", *options).code == 1
    assert cli("train", config, "--resume", *options).code == 0
    assert cli("train", config, "--run-dir", tmp_path / "other", *options).code == 0
    input = tmp_path / "t/noisy"
    for run in ("run", "other"):
        assert cli("predict", tmp_path / run, input, "-o", tmp_path / f"{run}_out").code == 0
    outputs = [contents(tmp_path / f"{run}_out") for run in ("run", "other")]
    assert outputs[0] == outputs[1] and len(outputs[0]) == 2


def test_no_room_for_a_prediction(refused, regression_run, tmp_path):
    images = [np.ones((20, 24), np.float32), np.ones((60, 64), np.float32)]
    folder = write_stack(tmp_path / "in", images)
    output = tmp_path / "out"
    arguments = ["predict", regression_run, folder, "-o", output]
    with full_disk():
        found = refused(*arguments, code=1, leaves={"out/image_000.tif"})
    assert found.startswith(f"{output}/image_001.tif: cannot be written: ")
    assert "File too large" in found or "is the disk full?" in found
    assert tifffile.imread(output / "image_000.tif").shape == (20, 24)


def test_no_room_for_a_config(refused, tmp_path):
    with full_disk(100):
        found = refused("init", "-o", tmp_path / "a.yaml", code=1)
    assert found == f"{tmp_path}/a.yaml: cannot be written: File too large"


def fill(folder, left):
    """Leave only so many bytes on a file system."""
    (folder / "other").write_bytes(bytes(shutil.disk_usage(folder).free - left))


def test_predicting_to_a_disk_that_really_is_full(refused, regression_run, tiny_disk, tmp_path):
    fill(tiny_disk, left=16 * 1024)
    images = write_stack(tmp_path / "in", [np.ones((80, 80), np.float32)])
    found = refused("predict", regression_run, images, "-o", tiny_disk / "out", code=1)
    assert found.startswith(f"{tiny_disk}/out/image_000.tif: cannot be written: ")
    assert "No space left on device" in found or "is the disk full?" in found


def test_training_on_a_disk_that_really_is_full(cli, config, tiny_disk):
    run = tiny_disk / "run"
    assert cli("train", config, "--run-dir", run).code == 0
    before = contents(run / "checkpoints")
    fill(tiny_disk, left=8 * 1024)
    options = ["--resume", "--set", "training.epochs=9", "--quiet"]
    result = cli("train", config, "--run-dir", run, *options)
    assert result.code == 1
    assert result.err.startswith(
        f"error: {run}/checkpoints/last.pt: cannot be written: No space left on device; free "
        "some space, then resume"
    )
    assert contents(run / "checkpoints") == before

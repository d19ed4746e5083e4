"""A network of series from its YAML to predictions."""

import numpy as np
import pytest
import tifffile
import torch

from msdtool.predict import Predictor
from tests.helpers import full_disk, write_experiment, write_noisy_pairs, write_stack

SHAPE = (7, 12, 14)
NETWORK = {
    "depth": 3,
    "dilations": [1, 2, 3],
    "ndim": 3,
    "stem": [{"Conv3d": {"out_channels": 2, "kernel_size": [3, 1, 1]}}],
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    sections = {
        "data": {
            "train": write_noisy_pairs(folder / "train", 2, SHAPE),
            "validation": write_noisy_pairs(folder / "validation", 1, SHAPE, seed=1),
            "crop": [5, 10, 10],
        },
        "network": NETWORK,
        "stream": {"axis": 0, "frames_per_chunk": 3},
        "training": {"epochs": 2, "learning_rate": 0.01},
    }
    return write_experiment(folder / "config.yaml", sections)


def test_a_series_is_checked_trained_predicted_and_evaluated(cli, config, tmp_path):
    assert cli("check", config).code == 0
    trained = cli("train", config, "--run-dir", tmp_path / "run")
    assert trained.code == 0, trained.err
    folder = config.parent / "validation"
    result = cli("predict", tmp_path / "run", folder / "noisy", "-o", tmp_path / "out")
    assert result.code == 0, result.err
    written = tifffile.imread(tmp_path / "out/image_000.tif")
    predictor = Predictor.load(tmp_path / "run", "cpu")
    whole = predictor(torch.from_numpy(tifffile.imread(folder / "noisy/image_000.tif"))[None])
    np.testing.assert_allclose(written, whole[0], rtol=1e-5, atol=1e-5)
    evaluated = cli(
        "evaluate", tmp_path / "run", "--input", folder / "noisy", "--target", folder / "clean"
    )
    assert evaluated.code == 0, evaluated.err


def test_a_temporal_layer_without_a_stream_is_refused_before_training(cli, config, tmp_path):
    result = cli("train", config, "--set", "stream=null", "--run-dir", tmp_path / "run")
    assert result.code == 2
    assert (
        "network.stem[0]: Conv3d is for image sequences; name the axis of time: stream.axis"
        in result.err
    )
    assert not (tmp_path / "run").exists()


def test_no_room_for_a_series(cli, config, tmp_path):
    cli("train", config, "--run-dir", tmp_path / "run", "--quiet")
    folder = write_stack(tmp_path / "in", [np.ones((40, 12, 14), np.float32)])
    with full_disk():
        result = cli("predict", tmp_path / "run", folder, "-o", tmp_path / "out", "--quiet")
    path = tmp_path / "out/image_000.tif"
    assert (result.code, result.err) == (1, f"error: {path}: cannot be written: File too large\n")
    assert not (tmp_path / "out").exists()

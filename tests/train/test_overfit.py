"""A network that cannot learn two images by heart cannot learn at all."""

import json

import numpy as np
import pytest
import tifffile
import torch

from msdtool.predict import Predictor
from tests.helpers import LABELS, write_experiment, write_labelled_pairs, write_noisy_pairs


@pytest.mark.parametrize(
    ("task", "loss"),
    # Losses of a constant answer: 1 in units of the targets' spread, and about log(3).
    [("regression", 0.05), ("segmentation", 0.05)],
)
def test_training_learns_a_tiny_set_and_prediction_gives_it_back(cli, tmp_path, task, loss):
    write = write_noisy_pairs if task == "regression" else write_labelled_pairs
    pairs = write(tmp_path, 2, (16, 16))
    # An epoch of many steps, because each epoch ends with writing checkpoints.
    data = {"train": {key: [folder] * 50 for key, folder in pairs.items()}, "cache": True}
    if task == "segmentation":
        data["labels"] = LABELS
    sections = {
        "task": task,
        "data": data,
        "network": {"depth": 8, "width": 2, "dilations": [1, 2, 4]},
        "training": {
            "epochs": 3,
            "batch_size": 2,
            "learning_rate": 0.02,
            "schedule": "cosine",
        },
    }
    config = write_experiment(tmp_path / "config.yaml", sections)
    result = cli("train", config, "--json", "--quiet")
    report = json.loads(result.out)
    assert report["best_loss"] < loss
    check_predictions(cli, tmp_path, task)


def check_predictions(cli, folder, task):
    """The written results are near the targets, and equal those of the network in memory."""
    inputs = folder / ("noisy" if task == "regression" else "images")
    result = cli("predict", folder / "run", inputs, "-o", folder / "out")
    assert result.code == 0, result.err
    predictor = Predictor.load(folder / "run")
    for path in sorted(inputs.iterdir()):
        found = tifffile.imread(folder / "out" / path.name)
        output = predictor(torch.from_numpy(tifffile.imread(path))[None])
        assert np.array_equal(found, predictor.to_image(output)[0])
        if task == "regression":
            target = tifffile.imread(folder / "clean" / path.name)
            assert np.std(found - target) < 0.2 * np.std(target)
        else:
            assert np.mean(found == tifffile.imread(folder / "labels" / path.name)) > 0.98

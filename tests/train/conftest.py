"""A small experiment, and processes to share it."""

import pytest

from msdtool.train import pictures
from tests.helpers import write_experiment, write_noisy_pairs
from tests.train.team import Team


@pytest.fixture(scope="session")
def team():
    """Processes that wait for work."""
    team = Team()
    yield team
    team.close()


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A small regression; drawing is left to the tests of drawing."""
    monkeypatch.setattr(pictures, "save_curves", lambda path, runs: None)
    data = {
        "train": write_noisy_pairs(tmp_path / "train", 5, (12, 14)),
        "validation": write_noisy_pairs(tmp_path / "validation", 2, (12, 12), seed=1),
        "augment": True,
    }
    training = {"epochs": 2, "batch_size": 2, "accumulate": 2, "schedule": "cosine"}
    return write_experiment(tmp_path / "config.yaml", {"data": data, "training": training})

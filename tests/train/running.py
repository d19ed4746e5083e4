"""Runs in this process, and how to compare them."""

import torch

from msdtool.config import load_config
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.train.run import TrainingRun


def open_run(config, *overrides, **options):
    return TrainingRun(load_config(config, overrides), **options)


def finish(run):
    """Train to the end and return the directory."""
    for _ in run.events():
        pass
    return run.directory


def plain_rows(directory):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in directory.read_rows()]


def check_same(directory, other):
    for name in ("last", "best"):
        found, expected = (load_checkpoint(getattr(d, name)) for d in (directory, other))
        for key, value in expected["model"]["state"].items():
            assert torch.equal(found["model"]["state"][key], value), key
        for checkpoint in (found, expected):
            checkpoint["progress"]["seconds"] = checkpoint["progress"]["data_seconds"] = 0
        assert found["progress"] == expected["progress"]
    assert plain_rows(directory) == plain_rows(other)

"""Runs in this process, and how to compare them."""

import torch

from msdtool.config import load_config
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.train.prepare import prepare_run


def open_run(config, *overrides, **options):
    return prepare_run(load_config(config, overrides), **options)


def finish(run):
    """Train to the end and return the directory."""
    for _ in run.events():
        pass
    return run.directory


def plain_rows(directory):
    """The epochs' rows without what differs between equal runs: time and memory."""
    rows = directory.read_rows()
    return [{k: v for k, v in row.items() if not k.endswith(("seconds", "bytes"))} for row in rows]


def check_same(directory, other):
    for name in ("last", "best"):
        found, expected = (load_checkpoint(getattr(d, name)) for d in (directory, other))
        for key, value in expected.model.state.items():
            assert torch.equal(found.model.state[key], value), key
        for checkpoint in (found, expected):
            checkpoint.progress.seconds = checkpoint.progress.data_seconds = 0
        assert found.progress == expected.progress
    assert plain_rows(directory) == plain_rows(other)

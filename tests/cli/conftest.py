"""What tests of commands that fail share."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ..helpers import (
    LABELS,
    write_experiment,
    write_labelled_pairs,
    write_noisy_pairs,
    write_stack,
)

# What a run writes before its first step; a failure after that may leave it.
BEGUN = {"run/config.yaml", "run/environment.json", "run/log.txt"}


@pytest.fixture
def config(tmp_path):
    return write_experiment(
        tmp_path / "a.yaml", {"data": {"train": write_noisy_pairs(tmp_path / "t", 2)}}
    )


@pytest.fixture
def images(tmp_path):
    return write_stack(tmp_path / "in", [np.ones((20, 24), np.float32)] * 3)


@pytest.fixture
def noisy(tmp_path):
    """A regression on three pairs, in t/noisy and t/clean, and one for validation, in v."""
    data = {
        "train": write_noisy_pairs(tmp_path / "t", 3),
        "validation": write_noisy_pairs(tmp_path / "v", 1, seed=1),
    }
    return write_experiment(tmp_path / "a.yaml", {"data": data})


@pytest.fixture
def labelled(tmp_path):
    """A segmentation of three pairs, in t/images and t/labels."""
    data = {"train": write_labelled_pairs(tmp_path / "t", 3), "labels": LABELS}
    return write_experiment(tmp_path / "a.yaml", {"task": "segmentation", "data": data})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def refused(cli, caplog, tmp_path) -> Callable[..., str]:
    """Run a command that must fail with one clear message, and return the message.

    No file below tmp_path may have changed, and none may be new but those in ``leaves``.
    """

    def run(*arguments: object, code: int, leaves: set[str] = frozenset(), stdin: str = "") -> str:
        before = contents(tmp_path)
        caplog.clear()
        result = cli(*arguments, stdin=stdin)
        assert result.code == code, result
        assert "Traceback" not in result.out + result.err
        # Python prints what other libraries log to stderr, beside our message.
        logged = [item for item in caplog.records if item.levelno >= logging.WARNING]
        assert all(item.name.startswith("msdtool") for item in logged)
        _, *messages = f"\n{result.err}".split("\nerror: ")
        assert len(messages) == 1, result.err
        after = contents(tmp_path)
        assert {name: after.get(name) for name in before} == before
        assert set(after) - set(before) <= set(leaves)
        # A message continues in indented lines; nothing follows it.
        first, *others = messages[0].rstrip("\n").split("\n")
        assert all(line.startswith("       ") for line in others)
        return "\n".join([first, *(line.strip() for line in others)])

    return run

"""Stored states of a training: every value is replaced by every kind of wrong one, in turn."""

import math
import shutil
from dataclasses import replace

import pytest
import torch

from msdtool.config import load_config
from msdtool.errors import ModelFileError, RunDirectoryError
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.train.states import read_state, restore
from tests.helpers import changed
from tests.train.running import check_same, finish, open_run

OPTIONS = ["training.average=0.9", "training.schedule=plateau"]
VALUES = {
    "missing": ...,
    "null": None,
    "text": "x",
    "true": True,
    "-1": -1,
    "0": 0,
    "0.001": 0.001,
    "1e12": 10**12,
    "NaN": math.nan,
    "inf": math.inf,
    "[]": [],
    "{}": {},
    "[1]": [1],
    "vector": torch.ones(7),
    "scalar NaN": torch.tensor(math.nan),
    "meta": torch.empty(2**40, device="meta"),
    "one value for 10^12": torch.zeros(1).expand(10**6, 10**6),
}
FREE = set(VALUES)

# What is not refused: it is right, or is replaced by what the run's config says.
RIGHT = {
    "schedule.rate": {"0.001", "1e12"},
    "schedule.plateau.best": {"0", "-1", "0.001", "1e12", "inf"},
    "schedule.plateau.num_bad_epochs": {"0", "1e12"},
    "schedule.plateau.last_epoch": {"0", "1e12"},
    "optimizer.param_groups.lr": {"0", "0.001", "1e12"},
    "metrics_bytes": {"0", "1e12"},
    "num_pairs.validation": {"0", "1e12"},
    "pictured": {"{}", "missing"},
}
CONFIGURED = ("schedule.plateau.", "optimizer.param_groups.")
"""Other keys of these are read from nowhere."""


@pytest.fixture
def begun(config):
    """A run that vanished in its second epoch."""
    steps = open_run(config, *OPTIONS, "training.checkpoint_every=1.0e-9").events()
    for _ in range(6):
        next(steps)
    steps.close()
    return config


@pytest.fixture
def last(begun):
    return begun.parent / "run" / "checkpoints" / "last.pt"


def keys(content, path=()):
    for key, value in content.items():
        here = (*path, key)
        if path == ("optimizer", "state") and key > 0:
            continue  # the weights are alike
        if here == ("optimizer", "param_groups"):
            yield from keys({0: value[0]}, here)
            continue
        yield here
        if isinstance(value, dict):
            yield from keys(value, here)


def test_a_wrong_value_is_refused_whatever_the_key(begun, last):
    config, checkpoint = load_config(begun, OPTIONS), load_checkpoint(last)
    learner = open_run(begun, *OPTIONS, resume=True).learner
    for path in keys(checkpoint.training):
        name = ".".join(str(key) for key in path if key != 0 or "param_groups" not in path)
        if name in RIGHT:
            allowed = RIGHT[name]
        elif name.startswith(CONFIGURED) and name != "optimizer.param_groups.params":
            allowed = FREE
        else:
            allowed = set()
        found = set()
        for kind, value in VALUES.items():
            try:
                other = replace(checkpoint, training=changed(checkpoint.training, path, value))
                restore(learner, other, read_state(other, config))
                found.add(kind)
            except ValueError as error:
                assert str(error).startswith(("training.", "progress.batches")), (name, kind)
        if path[-1] == 0:
            continue  # a whole group, or a whole weight's state
        assert found == allowed, name


# What is changed in last.pt, and what is said about it.
CONTRADICTIONS = [
    (("progress", "epoch"), 0, "progress.batches is 5; expected 3 for each of 0 epochs"),
    (("progress", "epoch"), 2, "progress.batches is 5; expected 3 for each of 2 epochs, and at "),
    (("progress", "batches"), 10**6, "progress.batches is 1000000; expected 3 for each of 1"),
    (("progress", "step"), 2, "progress.step is 2; expected 3"),
    (("training", "averaged_updates"), 2, "training.averaged_updates is 2; expected 3"),
    (("training", "schedule", "updates"), 2, "training.schedule.updates is not 3, the number of"),
    (("training", "pictured"), {"best": 9}, "training.pictured is {'best': 9}; expected indices "),
    (("training", "num_pairs", "training"), 0, "training.num_pairs is {'training': 0, 'validatio"),
    (("training", "optimizer", "state"), {}, "training.optimizer.state.0, that of msd.msd_block."),
    (("training", "weights", "msd.msd_block.bias"), torch.ones(7), "training.weights.msd.msd_bl"),
    (("model", "task"), "segmentation", "model.labels is (); expected 1 distinct labels"),
    (("model", "architecture", "dilations"), [9], "model.architecture.dilations is (9,); the run"),
    (("model", "architecture", "padding"), "zeros", "model.architecture.padding is 'zeros'; the "),
    (("model", "splits"), 5, "model.splits is 5; the run's config and images need 0"),
    (("model", "normalisation", "input_mean"), [], "model.normalisation.input_mean is (); expect"),
]


@pytest.mark.parametrize(("path", "value", "message"), CONTRADICTIONS)
def test_a_contradiction_is_named_and_nothing_is_changed(begun, last, path, value, message):
    torch.save(changed(torch.load(last, weights_only=True), path, value), last)
    run = begun.parent / "run"
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(ModelFileError) as error:
        open_run(begun, *OPTIONS, resume=True)
    assert error.value.message.startswith(f"{last}: is damaged: {message}")
    assert error.value.message.endswith(
        "; the run cannot be resumed: restore the file, or overwrite the run to start from "
        "scratch, which replaces best.pt"
    )
    assert error.value.hint_key == "overwrite"
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_best_checkpoint_that_cannot_be_used_is_not_continued(begun, last, damage):
    best = last.with_name("best.pt")
    if damage == "missing":
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:-99])
    with pytest.raises(ModelFileError) as error:
        open_run(begun, *OPTIONS, resume=True)
    assert error.value.message.startswith(f"{best}: ")
    assert error.value.message.endswith(
        "it held the best network so far: restore the file, or copy last.pt to its place, which "
        "then counts as the best"
    )
    shutil.copy(last, best)
    finish(open_run(begun, *OPTIONS, resume=True))


def test_rows_without_a_checkpoint_are_not_removed(begun, last):
    last.unlink()
    last.with_name("best.pt").unlink()
    with pytest.raises(RunDirectoryError, match="is missing, so the run cannot be resumed"):
        open_run(begun, *OPTIONS, resume=True)


def test_damaged_rows_are_repaired_and_the_run_ends_alike(begun, tmp_path, caplog):
    undisturbed = finish(open_run(begun, *OPTIONS, f"run.directory={tmp_path}/undisturbed"))
    metrics = begun.parent / "run" / "metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.write_bytes(b"oops\n" + whole.splitlines(keepends=True)[0] + b"\n")
    run = open_run(begun, *OPTIONS, resume=True)
    assert "metrics.jsonl: is damaged and was repaired; left out: line 1" in caplog.text
    assert "warning: " in run.directory.log_file.read_text()
    check_same(finish(run), undisturbed)

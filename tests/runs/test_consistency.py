"""Every value of a checkpoint is replaced by every kind of wrong one, in turn."""

import math
import warnings

import pytest
import torch

from msdtool.architecture import Architecture, Stream
from msdtool.errors import ModelFileError
from msdtool.nn.build import build_network
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.model import Checkpoint, Model, Normalisation
from msdtool.runs.training_progress import TrainingProgress
from tests.helpers import changed


def make_content(task="segmentation"):
    """What a checkpoint file holds; of 2 labels, or of slabs of 3 slices."""
    is_regression = task == "regression"
    c_in, c_out = (3, 1) if is_regression else (1, 2)
    architecture = Architecture(c_in, c_out, 2, 1, (1, 2), ndim=2)
    target = ((0.5,) * c_out, (2.0,) * c_out) if is_regression else ((), ())
    counts = () if is_regression else (1, 2)
    model = Model.of(
        build_network(architecture),
        task,
        architecture,
        Normalisation((0.1,) * c_in, (0.2,) * c_in, *target, 3.0, counts),
        labels=() if is_regression else (0, 255),
        ignore=None if is_regression else 7,
        slab=1 if is_regression else 0,
        splits=4 if is_regression else 0,
    )
    config = {"task": task, "data": {"data_range": 1.5}}
    progress = TrainingProgress(epoch=3, step=7, batches=9, best_loss=0.25, updates=4)
    return Checkpoint(model, config, progress, {"psnr": 20.0}, {"torch": "2"}, {}).to_dict()


VALUES = {
    "missing": ...,
    "null": None,
    "text": "x",
    "true": True,
    "-1": -1,
    "0": 0,
    "1.5": 1.5,
    "2": 2,
    "1e12": 10**12,
    "2**70": 2**70,
    "NaN": math.nan,
    "inf": math.inf,
    "[]": [],
    "{}": {},
    "[NaN]": [math.nan],
    "[-1]": [-1],
    "[1e12]": [10**12],
    "[7, 7]": [7, 7],
    "many": [*range(70_000)],
    "integers": torch.ones(2, dtype=torch.int32),
    "complex": torch.ones(2, dtype=torch.complex64),
    "sparse": torch.eye(2).to_sparse(),
    "meta": torch.empty(2**40, device="meta"),
    "NaNs": torch.full((2,), math.nan),
    "too large for float32": torch.full((2,), 1e300, dtype=torch.float64),
    "one value for 10^12": torch.zeros(1).expand(10**6, 10**6),
}
COUNTS = {"0", "2", "1e12"}
SUMS = {"0", "1.5", "2", "1e12"}
LOSSES = {*SUMS, "-1", "missing"}

# The values that are not refused, by key: they are right, or nothing depends on them.
RIGHT = {
    "model.architecture.c_out": {"2"},
    "model.architecture.depth": {"2"},
    "model.architecture.dilations": {"[1e12]", "[7, 7]"},
    "model.architecture.ndim": {"2"},
    "model.architecture.padding": {"missing"},
    "model.normalisation.input_mean": {"[-1]", "[1e12]"},
    "model.normalisation.input_std": {"[1e12]"},
    "model.normalisation.label_counts": {"[7, 7]"},
    "model.normalisation.target_mean": {"[]"},
    "model.normalisation.target_std": {"[]"},
    "model.normalisation.data_range": SUMS,
    "model.ignore": {"null", "-1", "2"},
    "model.collapse_channels": {"true"},
    "model.slab": {"0", "missing"},
    "model.splits": {"0", "missing"},
    "model.strategy": {"missing"},
    "config": {"{}"},
    "config.data": {"missing", "{}"},
    "config.data.data_range": {"missing", "null", "1.5", "2", "1e12"},
    "progress": {"{}"},
    "progress.epoch": {*COUNTS, "missing"},
    "progress.batches": {"1e12"},
    "progress.loss_sum": LOSSES,
    "progress.best_loss": {*LOSSES, "inf"},
    "progress.best_epoch": {"0", "2", "missing"},
    "progress.stale": {*COUNTS, "missing"},
    "progress.seconds": {*SUMS, "missing"},
    "progress.data_seconds": {*SUMS, "missing"},
    "progress.finished": {"text", "missing"},
    "progress.updates": {"0", "2", "missing"},
    "progress.norm_sum": {*SUMS, "missing"},
    "metrics": {"{}"},
    "versions": {"{}"},
    "versions.torch": {"text", "missing"},
    "training": {"{}"},
}
FREE = {name for name, value in VALUES.items() if not isinstance(value, torch.Tensor)} - {"2**70"}
FREE_KEYS = {"config.task", "metrics.psnr"}
"""Shown, but not used: any plain data will do."""


def keys(content, path=()):
    for key, value in content.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


def refusal(path, content):
    """The message with which a file is refused, or an empty string."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about sparse tensors
        torch.save(content, path)
        try:
            load_checkpoint(path)
        except ModelFileError as error:
            assert error.message.startswith(f"{path}: ") and len(error.message) < 400
            return error.message.removeprefix(f"{path}: ")
    return ""


@pytest.mark.parametrize("path", list(keys(make_content())), ids=".".join)
def test_a_wrong_value_is_refused_whatever_the_key(tmp_path, path):
    content, name = make_content(), ".".join(path)
    allowed = FREE if name in FREE_KEYS else RIGHT.get(name, set())
    found = {
        kind: refusal(tmp_path / "a.pt", changed(content, path, value))
        for kind, value in VALUES.items()
    }
    assert {kind for kind, message in found.items() if not message} == allowed


@pytest.mark.parametrize("task", ["regression", "segmentation"])
def test_what_is_right_is_read(tmp_path, task):
    assert refusal(tmp_path / "a.pt", make_content(task)) == ""


# Values that are possible on their own and contradict others: task, key, value, what is said.
CONTRADICTIONS = [
    ("regression", "model.labels", [0], "model.labels is (0,); expected none, of a regression"),
    ("regression", "model.ignore", 3, "model.ignore is 3; expected none, of a regression"),
    ("regression", "model.task", "segmentation", "model.labels is (); expected 1 distinct labels"),
    ("segmentation", "model.task", "regression", "model.labels is (0, 255); expected none"),
    ("segmentation", "model.labels", [3], "model.labels is (3,); expected 2 distinct labels"),
    ("segmentation", "model.labels", [3, 3], "model.labels is (3, 3); expected 2 distinct labels"),
    ("segmentation", "model.labels", [7, 1], "model.ignore is 7; expected a value that is not a "),
    ("segmentation", "model.labels", [1, 2**40], "model.labels is (1, 1099511627776); expected "),
    ("segmentation", "model.splits", 4, "model.splits is 4; expected 0, or of a regression 2"),
    ("segmentation", "model.slab", 1, "model.slab is 1; expected slices that make up 1 channels"),
    ("regression", "model.slab", 10**12, "model.slab is 1000000000000; expected slices"),
    ("regression", "model.splits", 1, "model.splits is 1; expected 0, or of a regression 2"),
    ("regression", "model.strategy", "X:2", "model.strategy is 'X:2'; expected X:1 or 1:X"),
    ("regression", "model.normalisation.target_mean", [], "model.normalisation.target_mean is ()"),
    ("regression", "model.normalisation.input_std", [1, 0, 1], "model.normalisation.input_std is"),
    ("regression", "model.normalisation.data_range", 0, "model.normalisation.data_range is 0; "),
    ("regression", "model.normalisation.label_counts", [1], "model.normalisation.label_counts is"),
    ("regression", "model.architecture.depth", 10**9, "model.state has the weights of 2 hidden "),
    ("regression", "model.architecture.c_in", 3 * 10**9, "model.normalisation.input_mean is"),
    ("regression", "model.architecture.width", 10**9, "model.state.msd.final_layer.linear.weight"),
    ("regression", "model.architecture.ndim", 3, "model.slab is 1; expected slices"),
    ("regression", "model.architecture.padding", "periodic", "model.architecture.padding is"),
    ("regression", "model.architecture.stream", {"axis": 0, "dt": 1}, "model.architecture.ndim is"),
    ("regression", "model.architecture.stream", {"axis": 0, "dt": 0}, "model.architecture.stream."),
    ("regression", "model.collapse_channels", True, ""),
    ("segmentation", "model.collapse_channels", True, ""),
    ("regression", "progress.step", 10, "progress.step is 10; expected a number that agrees with "),
    ("regression", "progress.updates", 8, "progress.step is 7; expected a number that agrees with"),
    ("regression", "progress.best_epoch", 5, "progress.best_epoch is 5; expected one of 4 epochs"),
    ("regression", "config.data", {"data_range": "1"}, "config.data.data_range is '1'; expected"),
    ("regression", "model.state.msd.msd_block.weight7", torch.ones(1), "model.state has the weig"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "key", "value", "message"), CONTRADICTIONS)
def test_a_contradiction_is_named(tmp_path, task, key, value, message):
    section, _, tensor = key.partition("model.state.")
    path = ("model", "state", tensor) if tensor else tuple(section.split("."))
    found = refusal(tmp_path / "a.pt", changed(make_content(task), path, value))
    assert found.startswith(f"is damaged: {message}" if message else "")
    assert bool(found) == bool(message)


def test_an_outer_layer_of_a_billion_channels_is_found_by_its_weights(tmp_path):
    content = make_content("regression")
    around = {"stem": [], "head": [], "scale": 1, "c_stem": 10**9, "features": 1}
    content["model"]["architecture"] |= around
    found = refusal(tmp_path / "a.pt", content)
    assert found.startswith("is damaged: model.state.msd.final_layer.linear.weight has shape (1, 5")


def test_a_series_has_the_weights_of_images(tmp_path):
    content = make_content()
    architecture = Architecture(1, 2, 2, 1, (1, 2), ndim=3, stream=Stream(0, 4))
    content["model"]["architecture"] = architecture.to_dict()
    content["model"]["state"] = build_network(architecture).state_dict()
    assert refusal(tmp_path / "a.pt", content) == ""


def nested(levels, width):
    """Lists that share their contents: width^levels values in a few bytes."""
    value = 0
    for _ in range(levels):
        value = [value] * width
    return value


@pytest.mark.parametrize("key", ["config", "metrics"])
@pytest.mark.parametrize("value", [nested(12, 9), nested(200, 1)], ids=["wide", "deep"])
def test_few_bytes_that_stand_for_billions_of_values_are_not_read(tmp_path, key, value):
    found = refusal(tmp_path / "a.pt", changed(make_content(), (key, "a"), value))
    assert found.startswith(f"is damaged: {key} has more than 200,000 values or 100 levels")

"""Whether a checkpoint agrees with itself: each value on its own, then with the others.

A checkpoint is read from a file of any origin. What passes here can be built, applied and reported
without a further look; the states of optimizer and schedule are compared with the run's when one
resumes, by `msdtool.train.states`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from msdtool.plain_data import MAX_LABEL_VALUE, check_plain, shown
from msdtool.runs.model import Checkpoint, Model, Normalisation
from msdtool.runs.training_progress import TrainingProgress
from msdtool.runs.weights import check_weights

TASKS = ("regression", "segmentation")
STRATEGIES = ("X:1", "1:X")

Problem = tuple[str, Any, str]
"""A key, its value, and what is expected instead."""


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Check a checkpoint whose values have the declared types.

    Raises:
        ValueError: it contradicts itself; names the key, its value and what is expected.
    """
    model = checkpoint.model
    for key, value, expected in _problems(checkpoint):
        raise ValueError(f"{key} is {shown(value)}; expected {expected}")
    check_plain(checkpoint.config, "config")
    check_plain(checkpoint.metrics, "metrics")
    check_weights(model.architecture, model.state, "model.state")


def _problems(checkpoint: Checkpoint) -> Iterator[Problem]:
    model = checkpoint.model
    if model.task not in TASKS:
        yield "model.task", model.task, " or ".join(TASKS)
    if model.task == "segmentation":
        yield from _labels(model)
    else:
        for key in ("labels", "ignore"):
            if getattr(model, key) not in ((), None):
                yield f"model.{key}", getattr(model, key), "none, of a regression"
    yield from _inputs(model)
    yield from _normalisation(model, model.normalisation)
    yield from _progress(checkpoint.progress)
    yield from _config(checkpoint.config)


def _labels(model: Model) -> Iterator[Problem]:
    labels, count = model.labels, model.architecture.c_out
    if len(labels) != count or len(set(labels)) != count:
        yield "model.labels", labels, f"{count} distinct labels, one per output channel"
    if any(abs(label) > MAX_LABEL_VALUE for label in labels):
        yield "model.labels", labels, f"magnitudes of at most {MAX_LABEL_VALUE}"
    if model.ignore is None:
        return
    if model.ignore in labels or abs(model.ignore) > MAX_LABEL_VALUE:
        yield "model.ignore", model.ignore, "a value that is not a label"


def _inputs(model: Model) -> Iterator[Problem]:
    """How images become the channels of the input."""
    thickness, c_in = 2 * model.slab + 1, model.architecture.c_in
    if model.slab < 0 or c_in % thickness or (model.slab and model.architecture.ndim == 3):
        yield "model.slab", model.slab, f"slices that make up {c_in} channels of images"
    elif model.collapse_channels and c_in != thickness:
        yield "model.collapse_channels", True, f"false, of {c_in} channels"
    if model.splits < 0 or model.splits == 1 or (model.splits and model.task != "regression"):
        yield "model.splits", model.splits, "0, or of a regression 2 or more"
    is_whole = model.task == "regression" and model.architecture.c_out % 3 == 0
    if model.interval and not (0 < model.interval < 1 and is_whole):
        yield "model.interval", model.interval, "0, or of 3 outputs per channel a fraction"
    if model.strategy not in STRATEGIES:
        yield "model.strategy", model.strategy, " or ".join(STRATEGIES)


def _normalisation(model: Model, normalisation: Normalisation) -> Iterator[Problem]:
    is_segmentation, architecture = model.task == "segmentation", model.architecture
    for kind, channels in (("input", architecture.c_in), ("target", architecture.c_out)):
        mean, std = (getattr(normalisation, f"{kind}_{name}") for name in ("mean", "std"))
        # The models of Python also save the identity for a segmentation's scores.
        is_absent = kind == "target" and is_segmentation and len(mean) + len(std) == 0
        for name, values, least in (("mean", mean, -math.inf), ("std", std, 0.0)):
            key = f"model.normalisation.{kind}_{name}"
            if len(values) != channels and not is_absent:
                yield key, values, f"{channels} numbers, one per channel"
            if not _are_within(values, least):
                yield key, values, "finite numbers" + (" above 0" if name == "std" else "")
    if not _are_within([normalisation.data_range], -1 if is_segmentation else 0):
        yield "model.normalisation.data_range", normalisation.data_range, "a number above 0"
    own, is_own = normalisation.own_range, model.scaling.is_per_image and not is_segmentation
    if not _are_within([own], 0 if is_own and model.scaling.target == "input" else -1):
        yield "model.normalisation.own_range", own, "a number above 0"
    counts, expected = normalisation.label_counts, architecture.c_out if is_segmentation else 0
    if len(counts) != expected or any(count < 0 for count in counts):
        yield "model.normalisation.label_counts", counts, f"{expected} counts, one per label"


def _are_within(values: Sequence[float], least: float) -> bool:
    return all(math.isfinite(value) and value > least for value in values)


def _progress(progress: TrainingProgress) -> Iterator[Problem]:
    for key, value in vars(progress).items():
        is_sum = key in ("loss_sum", "best_loss")  # a loss may be below 0
        if isinstance(value, str) or (key == "best_loss" and value == math.inf):
            continue
        if not math.isfinite(value) or (value < 0 and not is_sum):
            yield f"progress.{key}", value, "a finite number" if is_sum else "0 or more"
    if progress.best_epoch > progress.epoch + 1:
        yield "progress.best_epoch", progress.best_epoch, f"one of {progress.epoch + 1} epochs"
    if not progress.updates <= progress.step <= progress.batches:
        counts = f"{progress.updates} updates in the epoch and {progress.batches} batches"
        yield "progress.step", progress.step, f"a number that agrees with {counts}"


def _config(config: dict[str, Any]) -> Iterator[Problem]:
    """What is used of the experiment without reading it as one."""
    data = config.get("data", {})
    if not isinstance(data, dict):
        yield "config.data", data, "keys and values"
        return
    value = data.get("data_range")
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value < math.inf):
        yield "config.data.data_range", value, "a number above 0, or null"

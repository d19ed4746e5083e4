"""Looking at an experiment's data before training on it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from msdtool.config import SSIM_WINDOW, ExperimentConfig
from msdtool.data import ImageStack, Pairs
from msdtool.data.build import build_datasets
from msdtool.data.datasets import size_text
from msdtool.data.pairing import disagreeing_pairs
from msdtool.data.patches import blocks
from msdtool.data.statistics import BLOCK_PIXELS, count_labels
from msdtool.errors import ConfigError, InputError
from msdtool.nn.build import architecture, check_scale
from msdtool.nn.memory import training_bytes
from msdtool.ops.checks import check_dilations
from msdtool.train.sizes import check_images, sizes_of

MAX_LISTED = 10


@dataclass
class StackFacts:
    """What the images of a stack are like.

    Attributes:
        count: number of files.
        shapes: each shape [C, *space] and how many images have it.
        dtypes: likewise.
        minimum, maximum: over all finite values.
        mean: over all finite values.
    """

    count: int
    shapes: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    minimum: float = float("inf")
    maximum: float = float("-inf")
    mean: float = 0.0


@dataclass
class Report:
    """The result of a check.

    Attributes:
        pairs: the first pairs of each data set, by name.
        stacks: facts per stack, such as "train input".
        label_counts: pixels per label value in the training targets.
        memory_bytes: estimate for a training step on the largest image or the crop.
        problems: what makes training impossible.
        warnings: what looks wrong.
    """

    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    stacks: dict[str, StackFacts] = field(default_factory=dict)
    label_counts: dict[int, int] = field(default_factory=dict)
    memory_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


Tick = Callable[[str, int, int], None]
"""Told the name of a pair before it is read, how many were read before, and of how many."""


def check(config: ExperimentConfig, tick: Tick = lambda name, done, total: None) -> Report:
    """Read every image of an experiment and say what training would meet.

    Args:
        config: the experiment.
        tick: called before each pair, the count starting anew with the validation pairs.

    Raises:
        InputError: files are missing or their numbers differ, so that nothing can be read.
        ConfigError: the layers around or inside the network do not fit.
    """
    report = Report()
    train, validation = build_datasets(config)
    for name, pairs in (("train", train), ("validation", validation)):
        if pairs is not None:
            _check_pairs(config, name, pairs, report, tick)
    _check_sizes(config, train, validation, report)
    if config.num_labels:
        _check_labels(report)
    return report


def _check_pairs(
    config: ExperimentConfig, name: str, pairs: Pairs, report: Report, tick: Tick
) -> None:
    stacks = pairs.stacks()
    images = sorted({pairs.image(index) for index in range(len(pairs))})
    shown = {pairs.image(index): index for index in reversed(range(len(pairs)))}
    report.pairs[name] = [
        (pairs.name(shown[image]), pairs.target_name(shown[image])) for image in images[:3]
    ]
    differing = disagreeing_pairs(pairs)
    if differing:
        input, other = differing[0]
        report.warnings.append(
            f"{name}: {len(differing)} pairs have names that disagree, such as {input.name} and "
            f"{other.name}; pairs are made in natural order, is a file missing?"
        )
    for kind in stacks:
        report.stacks[f"{name} {kind}"] = StackFacts(len(images))
    seen: set[int] = set()
    counted = _Counted(np.zeros(config.num_labels, dtype=np.int64))
    problems: list[str] = []
    to_measure = pairs.to_measure()
    for done, index in enumerate(to_measure):
        tick(pairs.name(index), done, len(to_measure))
        image = pairs.image(index)
        try:
            for kind, stack in stacks.items():
                if image not in seen:
                    _add_facts(report, f"{name} {kind}", stack, image)
            seen.add(image)
            problems += _check_pair(pairs, index, counted)
        except InputError as error:
            problems.append(error.message)
    if name == "train" and config.num_labels:
        report.label_counts = dict(zip(config.label_values, counted.labels.tolist(), strict=True))
    if name == "train" and not problems and not counted.values and not counted.labels.any():
        keys = "data.ignore and data.train.mask" if config.num_labels else "data.train.mask"
        problems.append(f"no pixel of the training targets counts; look at {keys}")
    report.problems += problems[:MAX_LISTED]
    if len(problems) > MAX_LISTED:
        report.problems.append(f"... and {len(problems) - MAX_LISTED} more of {name}")


def _add_facts(report: Report, name: str, stack: ImageStack, index: int) -> None:
    """Take in an image, block by block: a volume need not fit in memory."""
    facts = report.stacks[name]
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    for window in blocks(stack.space(index), BLOCK_PIXELS):
        image = stack.read_array(index, window)
        finite = image[np.isfinite(image)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total, count = total + float(finite.sum(dtype=np.float64)), count + finite.size
    shape, dtype = size_text((image.shape[0], *stack.space(index))), str(image.dtype)
    facts.shapes[shape] = facts.shapes.get(shape, 0) + 1
    facts.dtypes[dtype] = facts.dtypes.get(dtype, 0) + 1
    if count:
        facts.minimum, facts.maximum = min(facts.minimum, low), max(facts.maximum, high)
        facts.mean += total / count / facts.count
    if stack.label_map is None and low == high:
        report.warnings.append(f"{stack.name(index)}: every pixel has the value {low:g}")


@dataclass
class _Counted:
    """Target pixels that count.

    Attributes:
        labels: of a segmentation, per label.
        values: of a regression.
    """

    labels: np.ndarray[Any, np.dtype[np.int64]]
    values: int = 0


def _check_pair(pairs: Pairs, index: int, counted: _Counted) -> list[str]:
    """Count a pair's pixels; say what is not finite, in the input or where the target counts."""
    names = pairs.name(index), pairs.target_name(index)
    bad, total = [0, 0], [0, 0]
    for window in blocks(pairs.space(index), BLOCK_PIXELS):
        sample = pairs.sample(index, window)
        for kind, image in enumerate((sample.input, sample.target)):
            bad[kind] += int(image.numel() - image.isfinite().sum())
            total[kind] += image.numel()
        if len(counted.labels):
            counted.labels += count_labels(sample.target, len(counted.labels))
        else:
            mask = sample.mask
            counted.values += int(sample.target.numel() if mask is None else mask.sum())
    return [
        f"{name}: {bad[kind]} of {total[kind]} values are NaN or infinite"
        for kind, name in enumerate(names)
        if bad[kind]
    ]


def _check_sizes(
    config: ExperimentConfig, train: Pairs, validation: Pairs | None, report: Report
) -> None:
    """Channels and sizes that differ, or do not fit crop, batch or dilations."""
    shapes = {
        name: [tuple(map(int, shape.split(" x "))) for shape in facts.shapes]
        for name, facts in report.stacks.items()
    }
    for kind in ("input", "target", "split"):
        found = sorted({s[0] for name in shapes if kind in name for s in shapes[name]})
        if len(found) > 1 and not config.data.collapse_channels:
            report.problems.append(
                f"{kind} images have {' and '.join(map(str, found))} channels; all need the same "
                "number, or set data.collapse_channels: true"
            )
    # The splits of an image have one size.
    by_name = {name: found for name, found in shapes.items() if "input" in name or "split" in name}
    inputs = list(dict.fromkeys(shape for found in by_name.values() for shape in found))
    if not inputs:
        return
    training = sizes_of(train)
    crop = config.crop_size
    if crop is not None:
        for size in training:
            if any(have < want for have, want in zip(size, crop, strict=True)):
                report.problems.append(
                    f"a training image of {size_text(size)} pixels is smaller than data.crop "
                    f"{size_text(crop)}"
                )
    elif config.training.batch_size > 1 and len(set(training)) > 1:
        report.problems.append(
            f"training images have {len(set(training))} sizes, which need "
            "training.batch_size: 1, or data.crop"
        )
    smallest = min(min(shape[1:]) for shape in inputs)
    if "SSIM" in config.training.loss_terms and crop is None and smallest < SSIM_WINDOW:
        report.problems.append(
            f"an image is {smallest} pixels wide or high; SSIM, in training.loss, needs at least "
            f"{SSIM_WINDOW}"
        )
    for shape in inputs:
        try:
            used = config.network.dilations[: config.network.depth]
            check_dilations(used, config.convolved(shape[1:]), config.network.padding)
        except ValueError as error:
            report.problems.append(f"{error}; choose smaller network.dilations")
            break
    channels = 1 if config.data.collapse_channels else inputs[0][0]
    channels *= 2 * config.data.slab + 1
    largest = crop or max(training or [inputs[0][1:]], key=math.prod)
    targets = [shape for name in shapes if name.endswith("target") for shape in shapes[name]]
    c_out = 1 if config.data.collapse_channels else (targets or inputs)[0][0]
    planned = architecture(config, channels, config.num_labels or c_out, largest)
    try:
        if not report.problems:
            check_scale(config, planned, train.scale)
            check_images(config, planned, train, validation)
    except ConfigError as error:
        report.problems.append(error.message)
    report.memory_bytes = training_bytes(planned, largest, config.training.batch_size)


def _check_labels(report: Report) -> None:
    absent = [value for value, count in report.label_counts.items() if count == 0]
    if absent and not report.problems:
        report.warnings.append(
            f"the training targets have no pixel with the label {', '.join(map(str, absent))}"
        )

"""Examine an experiment's data before training on it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msdtool.check.normalisation import describe
from msdtool.check.report import Finding, Report, StackFacts, summed_up
from msdtool.config import ExperimentConfig
from msdtool.data import ImageStack, Pairs
from msdtool.data.build import build_datasets
from msdtool.data.likeness import likeness
from msdtool.data.pair_names import disagreeing_pairs
from msdtool.data.pairing import not_finite_text, num_not_finite
from msdtool.data.patches import BLOCK_PIXELS, blocks
from msdtool.data.statistics import count_labels
from msdtool.errors import ConfigError, InputError, ModelFileError
from msdtool.nn.device import choose_device
from msdtool.nn.from_config import check_scale, plan_architecture
from msdtool.nn.memory import training_bytes
from msdtool.progress import Progress, no_progress
from msdtool.train.build import check_images, sizes_of
from msdtool.train.data_checks import size_problems
from msdtool.train.initial import load_initial
from msdtool.train.normalise import nothing_counts
from msdtool.train.precision import check_precision

MAX_LISTED = 10


def check(config: ExperimentConfig, progress: Progress = no_progress) -> Report:
    """Read every image of an experiment and report the problems that training would hit.

    Args:
        config: the experiment.
        progress: called before each pair with its name; counts training pairs, then validation
            pairs from 0.

    Raises:
        InputError: files are missing, or inputs and targets differ in number.
        ConfigError: the layers around or inside the network do not fit.
    """
    report = Report()
    train, validation = build_datasets(config)
    for name, pairs in (("train", train), ("validation", validation)):
        if pairs is not None:
            _check_pairs(config, name, pairs, report, progress)
    _check_sizes(config, train, validation, report)
    _check_machine(config, report)
    describe(config, train, report)
    if config.num_labels:
        _check_labels(report)
    return report


def _check_machine(config: ExperimentConfig, report: Report) -> None:
    """Warn of settings that this machine has no device for; another one may train."""
    try:
        device = choose_device(config.training.device)
        check_precision(config.training.precision, device)
    except ConfigError as error:
        report.warnings.append(f"on this machine, {error.message}")


def _check_pairs(
    config: ExperimentConfig, name: str, pairs: Pairs, report: Report, progress: Progress
) -> None:
    stacks = pairs.stacks()
    images = sorted({pairs.image(index) for index in range(len(pairs))})
    shown = {pairs.image(index): index for index in reversed(range(len(pairs)))}
    report.pairs[name] = [
        (pairs.name(shown[image]), pairs.target_name(shown[image])) for image in images[:3]
    ]
    differing = disagreeing_pairs(stack.paths for stack in stacks.values())
    if differing:
        input, other = differing[0]
        report.warnings.append(
            f"{name}: in {len(differing)} pairs the names disagree, such as {input.name} and "
            f"{other.name}; files are paired in natural order, is one missing?"
        )
    for kind in stacks:
        report.stacks[name, kind] = StackFacts(len(images))
    seen: set[int] = set()
    counted = _Counted(np.zeros(config.num_labels, dtype=np.int64))
    problems: list[Finding] = []
    warnings: list[Finding] = []
    to_measure = pairs.to_measure()
    for done, index in enumerate(to_measure):
        progress(done, len(to_measure), pairs.name(index))
        image = pairs.image(index)
        of_stacks = [stack.name(image) for stack in stacks.values()]
        names = pairs.name(index), pairs.target_name(index), *of_stacks
        try:
            for kind, stack in stacks.items():
                if image not in seen:
                    warnings += _add_facts(report.stacks[name, kind], stack, image)
            seen.add(image)
            problems += [Finding(text, names) for text in _check_pair(pairs, index, counted)]
        except InputError as error:
            problems.append(Finding(error.message, names))
    # Of targets with wrong values, the histogram would be one of what is right about them.
    if name == "train" and config.num_labels and not problems:
        report.label_counts = dict(zip(config.label_values, counted.labels.tolist(), strict=True))
    if not problems and not counted.values and not counted.labels.any():
        problems.append(Finding(nothing_counts(config, name), ()))
    if not problems and (config.data.train.splits or (name == "train" and config.data.train.swap)):
        report.warnings += _unlike_repeats(name, stacks, images)
    report.warnings += summed_up(warnings, len(images) * len(stacks), f"{name} images")
    summed = summed_up(problems, len(to_measure), f"{name} pairs")
    report.problems += summed[:MAX_LISTED]
    if len(summed) > MAX_LISTED:
        report.problems.append(f"... and {len(summed) - MAX_LISTED} more of {name}")


def _unlike_repeats(
    name: str, stacks: Mapping[str, ImageStack], images: Sequence[int]
) -> Iterator[str]:
    """Say which noisy repeats have no more in common with the first ones than other images."""
    (first, stack), *others = ((k, s) for k, s in stacks.items() if k != "mask")
    for kind, other in others:
        found = likeness(stack, other, images)
        if found is not None and not found.is_paired:
            yield (
                f"{name}: the {first} and {kind} of an image are no more alike (correlation "
                f"{found.own:.2g}) than those of different images ({found.others:.2g}): are files "
                "missing or in another order? Where all images show the same, or noise hides it, "
                "this means nothing"
            )


def _add_facts(facts: StackFacts, stack: ImageStack, index: int) -> list[Finding]:
    """Add an image, block by block, since a volume need not fit in memory; return warnings."""
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    for window in blocks(stack.space(index), BLOCK_PIXELS):
        image = stack.read_array(index, window)
        finite = image[np.isfinite(image)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total, count = total + float(finite.sum(dtype=np.float64)), count + finite.size
    shape, dtype = (image.shape[0], *stack.space(index)), str(image.dtype)
    facts.shapes[shape] = facts.shapes.get(shape, 0) + 1
    facts.dtypes[dtype] = facts.dtypes.get(dtype, 0) + 1
    if count:
        facts.minimum, facts.maximum = min(facts.minimum, low), max(facts.maximum, high)
        facts.mean += total / count / facts.count
    name, warnings = stack.name(index), list(stack.notes(index))
    facts.notes += [note for note in warnings if note not in facts.notes]
    if stack.label_map is None and low == high:
        warnings.append(f"every pixel has the value {low:g}")
    return [Finding(f"{name}: {text}", (name,)) for text in warnings]


@dataclass
class _Counted:
    """Numbers of target pixels that count.

    Attributes:
        labels: pixels per label of a segmentation; empty for a regression.
        values: pixels of a regression.
    """

    labels: np.ndarray[Any, np.dtype[np.int64]]
    values: int = 0


def _check_pair(pairs: Pairs, index: int, counted: _Counted) -> list[str]:
    """Count a pair's pixels; report values of the input or the target that are not finite."""
    names = pairs.name(index), pairs.target_name(index)
    bad, total = [0, 0], [0, 0]
    for window in blocks(pairs.space(index), BLOCK_PIXELS):
        sample = pairs.sample(index, window)
        for kind, image in enumerate((sample.input, sample.target)):
            bad[kind] += num_not_finite(image)
            total[kind] += image.numel()
        if len(counted.labels):
            counted.labels += count_labels(sample.target, len(counted.labels))
        else:
            mask = sample.mask
            counted.values += int(sample.target.numel() if mask is None else mask.sum())
    return [
        not_finite_text(name, bad[kind], total[kind])
        for kind, name in enumerate(names)
        if bad[kind]
    ]


def _check_sizes(
    config: ExperimentConfig, train: Pairs, validation: Pairs | None, report: Report
) -> None:
    """Report channels and sizes that differ, or that do not fit crop, batch or dilations."""
    _check_channels(config, report)
    inputs = report.shapes("input", "split")  # all splits of an image have the same size
    if not inputs:
        return
    training = sizes_of(train)
    report.problems += size_problems(config, train, validation)
    channels = 1 if config.data.collapse_channels else inputs[0][0]
    channels *= 2 * config.data.slab + 1
    largest = config.crop_size or max(training or [inputs[0][1:]], key=math.prod)
    c_out = 1 if config.data.collapse_channels else (report.shapes("target") or inputs)[0][0]
    planned = plan_architecture(config, channels, config.num_outputs(c_out), largest)
    try:
        if not report.problems:
            check_scale(config, planned, train.scale)
            check_images(config, planned, train, validation)
            load_initial(config, planned)
    except (ConfigError, ModelFileError) as error:
        report.problems.append(error.message)
    report.slices = 2 * config.data.slab + 1
    report.input_channels, report.output_channels = planned.c_in, planned.c_out
    report.memory_bytes = training_bytes(planned, largest, config.training.batch_size)


def _check_channels(config: ExperimentConfig, report: Report) -> None:
    for role in ("input", "target", "split"):
        found = sorted({shape[0] for shape in report.shapes(role)})
        if len(found) > 1 and not config.data.collapse_channels:
            report.problems.append(
                f"{role} images have {' and '.join(map(str, found))} channels; all need the same "
                "number, or set data.collapse_channels: true"
            )


def _check_labels(report: Report) -> None:
    absent = [value for value, count in report.label_counts.items() if count == 0]
    if absent and not report.problems:
        report.warnings.append(
            f"the training targets have no pixel with the label {', '.join(map(str, absent))}"
        )

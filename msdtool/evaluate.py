"""Measure a trained network on pairs of images."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from msdtool.atomic import atomic_path
from msdtool.data import ImageStack
from msdtool.data.inputs import MeasuredPairs
from msdtool.data.pair_names import disagreeing_pairs
from msdtool.data.pairing import finite_sample
from msdtool.data.specifiers import Specifier
from msdtool.data.statistics import Moments
from msdtool.errors import InputError
from msdtool.file_errors import cannot_write
from msdtool.measure.comparisons import compare
from msdtool.measure.metrics import Metrics, build_metrics
from msdtool.predict import Predictor
from msdtool.progress import Progress, no_progress
from msdtool.report.pictures import save_comparisons

log = logging.getLogger(__name__)


@dataclass
class Evaluation:
    """Metrics of a network over a data set.

    Attributes:
        images: per image, its input file and metrics.
        outputs: metrics of the network's outputs over all images.
        inputs: metrics of the unprocessed inputs, if they can be compared with the targets.
    """

    images: list[dict[str, Any]]
    outputs: Metrics
    inputs: Metrics | None

    @property
    def output(self) -> dict[str, Any]:
        """Metrics of the outputs, by name."""
        return self.outputs.compute()

    @property
    def input(self) -> dict[str, Any] | None:
        """Metrics of the unprocessed inputs, by name."""
        return None if self.inputs is None else self.inputs.compute()


def open_pairs(
    predictor: Predictor,
    input: Sequence[Specifier],
    target: Specifier,
    mask: Specifier | None,
) -> MeasuredPairs:
    """Open pairs of images in the way the network's training pairs were read.

    Args:
        predictor: the network.
        input: specifier of the images, or one for each split.
        target: specifier of the targets.
        mask: specifier of the masks; None: all pixels count.

    Raises:
        InputError: files are missing or cannot be paired.
    """
    model = predictor.model
    inputs, files = predictor.open_inputs(input)
    targets = ImageStack(
        target,
        collapse_channels=model.collapse_channels,
        labels=model.labels or None,
        ignore=model.ignore,
        ndim=predictor.ndim,
    )
    masks = None
    if mask is not None:
        masks = ImageStack(mask, collapse_channels=True, ndim=predictor.ndim)
    pairs = MeasuredPairs(inputs, files, targets, masks, model.slab)
    stacks = [*files, targets] if masks is None else [*files, targets, masks]
    for one, other in disagreeing_pairs(stack.paths for stack in stacks)[:1]:
        log.warning(
            f"{one.name} is paired with {other.name}: the names disagree; files are paired in "
            "natural order, is one missing?"
        )
    return pairs


def evaluate(
    predictor: Predictor,
    pairs: MeasuredPairs,
    progress: Progress = no_progress,
    share: Sequence[int] | None = None,
    data_range: float | None = None,
) -> Evaluation:
    """Apply the network to pairs of images and measure its outputs.

    Args:
        predictor: the network.
        pairs: inputs and targets.
        progress: called after each pair.
        share: indices of the pairs to measure; None: all.
        data_range: value range that PSNR and SSIM refer to; None: `target_range`.

    Raises:
        InputError: a file cannot be used.
    """
    _check_scale(predictor, pairs)
    labels = predictor.model.labels
    if data_range is None:
        data_range = target_range(predictor, pairs)
    outputs, inputs = build_metrics(labels, data_range), build_metrics(labels, data_range)
    images, comparable = [], not labels
    indices = range(len(pairs)) if share is None else share
    for done, index in enumerate(indices, start=1):
        sample = finite_sample(pairs, index)
        predictor.check(sample.input, pairs.name(index))
        _check_target(predictor, sample.target, pairs.target_name(index))
        output = predictor(sample.input, pairs.name(index)).unsqueeze(0)
        target = sample.target.unsqueeze(0)
        mask = None if sample.mask is None else sample.mask.unsqueeze(0)
        images.append({"image": pairs.name(index), **outputs.update(output, target, mask)})
        shown = pairs.sample(index, central_only=True).input
        comparable = comparable and shown.shape == sample.target.shape
        if comparable:
            inputs.update(shown.unsqueeze(0), target, mask)
        progress(done, len(indices))
    return Evaluation(images, outputs, inputs if comparable else None)


def target_range(predictor: Predictor, pairs: MeasuredPairs) -> float:
    """Return the maximum minus the minimum of all target pixels that count; 0 for labels.

    If they are all equal, it is the range that the network was trained with.

    Raises:
        InputError: a file cannot be used.
    """
    known = predictor.model.normalisation.data_range
    if predictor.model.labels:
        return known
    moments = Moments()
    for index in range(len(pairs)):
        values, mask = pairs.target(index)
        counted = values.flatten(1) if mask is None else values[:, mask[0]]
        moments.add(counted.double().numpy())
    return moments.maximum - moments.minimum if moments.maximum > moments.minimum else known


def _check_scale(predictor: Predictor, pairs: MeasuredPairs) -> None:
    found, given = pairs.scale, predictor.network.scale
    if found != given:
        raise InputError(
            f"{pairs.target_name(0)}: the target is {found} times as large as its input, the "
            f"outputs of the model are {given} times as large"
        )


def _check_target(predictor: Predictor, target: Tensor, name: str) -> None:
    expected = 1 if predictor.label_map else predictor.model.architecture.c_out
    if target.shape[0] != expected:
        raise InputError(
            f"{name}: the target has {target.shape[0]} channels, the model outputs {expected}"
        )


def draw(predictor: Predictor, pairs: MeasuredPairs, evaluation: Evaluation, path: Path) -> None:
    """Draw input, output and target of the best, a typical and the worst image as a PNG."""
    labels = predictor.model.labels
    key = "accuracy" if labels else "psnr"
    order = np.argsort([-image[key] for image in evaluation.images])
    ranks = {"best": order[0], "typical": order[len(order) // 2], "worst": order[-1]}
    rows = [
        compare(
            pairs.sample(int(index), central_only=True),
            predictor(pairs.sample(int(index)).input),
            len(labels),
            evaluation.output.get("data_range", 0.0),
            f"{rank}, {Path(pairs.name(int(index))).name}",
        )
        for rank, index in ranks.items()
    ]
    save_comparisons(path, rows[: len(pairs)], len(labels))


# In parts ------------------------------------------------------------------------------------


class PartFiles:
    """A shared folder for partial results of an evaluation, one file for each part.

    Args:
        folder: it need not exist.
        predictor: the network.
        specifiers: what is evaluated, by the names of the options.
        count: the number of parts.
        data_range: value range that PSNR and SSIM refer to.
    """

    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        specifiers: Mapping[str, Any],
        count: int,
        data_range: float,
    ) -> None:
        self.folder = folder
        self.predictor = predictor
        self.count = count
        self.data_range = data_range
        self.identity = {"network": predictor.digest, "data_range": data_range, **specifiers}

    def path(self, part: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"part-{part:04}-of-{self.count:04}.json"

    @property
    def missing(self) -> list[int]:
        """The parts that have no file yet."""
        return [part for part in range(self.count) if not self.path(part).exists()]

    def save(self, part: int, evaluation: Evaluation) -> None:
        """Write the file of a part, or replace it.

        Raises:
            Error: it cannot be written.
        """
        inputs = evaluation.inputs
        content = {
            **self.identity,
            "images": evaluation.images,
            "outputs": evaluation.outputs.state(),
            "inputs": None if inputs is None else inputs.state(),
        }
        path = self.path(part)
        with cannot_write(path), atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def load(self) -> Evaluation:
        """Return the evaluation of all parts, its images in their original order.

        Raises:
            InputError: a part is of another evaluation.
        """
        parts = [self._load(part) for part in range(self.count)]
        total, *others = parts
        for other in others:
            total.outputs.add(other.outputs)
            if total.inputs is not None and other.inputs is not None:
                total.inputs.add(other.inputs)
            else:
                total.inputs = None
        rounds = zip_longest(*(part.images for part in parts))
        total.images = [image for row in rounds for image in row if image is not None]
        return total

    def _load(self, part: int) -> Evaluation:
        path = self.path(part)
        content = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key, value in self.identity.items() if content.get(key) != value]
        if differing:
            raise InputError(
                f"{path}: belongs to another evaluation (different {', '.join(differing)}); choose "
                "another folder, or remove the files"
            )
        metrics = [build_metrics(self.predictor.model.labels, self.data_range) for _ in range(2)]
        outputs, inputs = metrics
        outputs.load_state(content["outputs"])
        if content["inputs"] is None:
            return Evaluation(content["images"], outputs, None)
        inputs.load_state(content["inputs"])
        return Evaluation(content["images"], outputs, inputs)

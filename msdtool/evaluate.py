"""Measure a trained network on pairs of images."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

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
from msdtool.measure.comparisons import compare, rank_text, ranked
from msdtool.measure.intervals import metric_intervals
from msdtool.measure.metrics import Metrics, SegmentationMetrics, build_metrics, counted
from msdtool.measure.surfaces import mean_surface_metrics, surface_metrics
from msdtool.predict import Predictor
from msdtool.predict.plausibility import num_unusable, unusable_text
from msdtool.progress import Progress, no_progress
from msdtool.report.pictures import save_comparisons

log = logging.getLogger(__name__)

FORMAT = 2
"""Of the partial results; those of earlier versions lack surface distances, pixels and hashes."""


@dataclass
class Evaluation:
    """Metrics of a network over a data set.

    Attributes:
        images: per image, its input file, a hash of its target, and metrics; of a segmentation also
            the pixels of each label: in output and target, in the target, in the output.
        outputs: metrics of the network's outputs over all images.
        inputs: metrics of the unprocessed inputs, if they can be compared with the targets.
    """

    images: list[dict[str, Any]]
    outputs: Metrics
    inputs: Metrics | None

    @property
    def output(self) -> dict[str, Any]:
        """Metrics of the outputs, by name."""
        metrics = self.outputs.compute()
        if isinstance(self.outputs, SegmentationMetrics):
            metrics |= mean_surface_metrics(self.images)
        return metrics

    @property
    def input(self) -> dict[str, Any] | None:
        """Metrics of the unprocessed inputs, by name."""
        return None if self.inputs is None else self.inputs.compute()

    @property
    def confusion(self) -> dict[str, Any] | None:
        """The confusion matrix of a segmentation: a row per label of the targets."""
        if not isinstance(self.outputs, SegmentationMetrics):
            return None
        return {"labels": self.outputs.labels, "pixels": self.outputs.confusion.tolist()}

    def to_dict(self) -> dict[str, Any]:
        """All results, as plain data."""
        return {
            "output": self.output,
            "input": self.input,
            "intervals": metric_intervals(self.images),
            "confusion": self.confusion,
            "images": self.images,
        }


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
        bad, total = num_unusable(output[0], labels=bool(labels))
        if bad:
            log.warning(unusable_text(pairs.name(index), bad, total))
        target = sample.target.unsqueeze(0)
        mask = None if sample.mask is None else sample.mask.unsqueeze(0)
        measured = outputs.update(output, target, mask)
        if labels:
            measured |= surface_metrics(output[0].argmax(0), counted(target, mask)[0, 0], labels)
        digest = _digest(sample.target, sample.mask)
        images.append({"image": pairs.name(index), "target_digest": digest, **measured})
        shown = pairs.sample(index, central_only=True).input
        comparable = comparable and shown.shape == sample.target.shape
        if comparable:
            inputs.update(shown.unsqueeze(0), target, mask)
        progress(done, len(indices))
    return Evaluation(images, outputs, inputs if comparable else None)


def _digest(target: Tensor, mask: Tensor | None) -> str:
    """A hash of the pixels that are measured: outputs can be compared if it is the same."""
    digest = hashlib.blake2b(repr(tuple(target.shape)).encode(), digest_size=8)
    for image in (target, mask):
        if image is not None:
            digest.update(image.contiguous().numpy().tobytes())
    return digest.hexdigest()


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
    ranks = ranked([-image[key] for image in evaluation.images])
    rows = [
        compare(
            pairs.sample(index, central_only=True),
            predictor(pairs.sample(index).input),
            len(labels),
            evaluation.output.get("data_range", 0.0),
            f"{rank_text(rank, len(pairs))}, {Path(pairs.name(index)).name}",
        )
        for rank, index in sorted(ranks.items())
    ]
    save_comparisons(path, rows, labels)


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
        self.identity = {
            "format": FORMAT,
            "network": predictor.digest,
            "data_range": data_range,
            **specifiers,
        }

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

"""Measure a trained network on pairs of images."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from msdtool.data import ImageStack
from msdtool.data.inputs import MeasuredPairs
from msdtool.data.masks import MaskStack
from msdtool.data.moments import Moments
from msdtool.data.pair_names import disagreeing_pairs
from msdtool.data.pairing import finite_sample
from msdtool.data.specifiers import Specifier
from msdtool.errors import InputError
from msdtool.measure.calibration import Reliability
from msdtool.measure.intervals import metric_intervals
from msdtool.measure.metrics import Metrics, SegmentationMetrics, build_metrics, counted
from msdtool.measure.surfaces import mean_surface_metrics, surface_metrics
from msdtool.predict import Predictor
from msdtool.predict.plausibility import num_unusable, unusable_text
from msdtool.progress import Progress, no_progress

log = logging.getLogger(__name__)


@dataclass
class Evaluation:
    """Metrics of a network over a data set.

    Attributes:
        images: per image, its input file, a hash of its target, and metrics; of a segmentation also
            the pixels of each label: in output and target, in the target, in the output.
        output_metrics: of the network's outputs over all images.
        input_metrics: of the unprocessed inputs, if they can be compared with the targets.
        reliability: of a segmentation's probabilities.
    """

    images: list[dict[str, Any]]
    output_metrics: Metrics
    input_metrics: Metrics | None
    reliability: Reliability | None = None

    @property
    def output(self) -> dict[str, Any]:
        """Metrics of the outputs, by name."""
        metrics = self.output_metrics.compute()
        if isinstance(self.output_metrics, SegmentationMetrics):
            metrics |= mean_surface_metrics(self.images)
        return metrics

    @property
    def input(self) -> dict[str, Any] | None:
        """Metrics of the unprocessed inputs, by name."""
        return None if self.input_metrics is None else self.input_metrics.compute()

    @property
    def confusion(self) -> dict[str, Any] | None:
        """The confusion matrix of a segmentation: a row per label of the targets."""
        if not isinstance(self.output_metrics, SegmentationMetrics):
            return None
        return {
            "labels": self.output_metrics.labels,
            "pixels": self.output_metrics.confusion.tolist(),
        }

    def to_dict(self) -> dict[str, Any]:
        """All results, as plain data."""
        return {
            "output": self.output,
            "input": self.input,
            "intervals": metric_intervals(self.images),
            "confusion": self.confusion,
            "calibration": None if self.reliability is None else self.reliability.to_dict(),
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
        masks = MaskStack(mask, ndim=predictor.ndim)
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
    indices: Sequence[int] | None = None,
    data_range: float | None = None,
) -> Evaluation:
    """Apply the network to pairs of images and measure its outputs.

    Args:
        predictor: the network.
        pairs: inputs and targets.
        progress: called after each pair.
        indices: of the pairs to measure; None: all.
        data_range: value range that PSNR and SSIM refer to; None: `target_range`.

    Raises:
        InputError: a file cannot be used.
    """
    _check_scale(predictor, pairs)
    labels = predictor.model.labels
    if data_range is None:
        data_range = target_range(predictor, pairs)
    inputs = build_metrics(labels, data_range)
    outputs = build_metrics(labels, data_range, bounds=predictor.model.interval > 0)
    reliability = Reliability() if labels else None
    images, comparable = [], not labels
    indices = range(len(pairs)) if indices is None else indices
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
        if reliability is not None:
            known = counted(target, mask)
            measured |= surface_metrics(output[0].argmax(0), known[0, 0], labels)
            reliability.update(output, known)
        digest = _digest(sample.target, sample.mask)
        images.append({"image": pairs.name(index), "target_digest": digest, **measured})
        shown = pairs.sample(index, central_only=True).input
        comparable = comparable and shown.shape == sample.target.shape
        if comparable:
            inputs.update(shown.unsqueeze(0), target, mask)
        progress(done, len(indices))
    return Evaluation(images, outputs, inputs if comparable else None, reliability)


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
    expected = 1 if predictor.label_map else predictor.model.channels
    if target.shape[0] != expected:
        raise InputError(
            f"{name}: the target has {target.shape[0]} channels, the model outputs {expected}"
        )

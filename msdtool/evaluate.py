"""How well a trained network does on pairs of images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from msdtool.data import ImageDataset
from msdtool.data.datasets import finite_sample
from msdtool.data.slabs import central_slice
from msdtool.errors import InputError
from msdtool.predict import Predictor
from msdtool.report.pictures import save_comparisons
from msdtool.train.build import build_metrics
from msdtool.train.pictures import compare


@dataclass
class Evaluation:
    """Metrics of a network over a data set.

    Attributes:
        images: per image, its input file and metrics.
        output: metrics of the network's outputs over all images.
        input: metrics of the inputs as they are, where they can be compared with the targets.
    """

    images: list[dict[str, Any]]
    output: dict[str, Any]
    input: dict[str, Any] | None


def open_pairs(predictor: Predictor, input: str, target: str, mask: str | None) -> ImageDataset:
    """Open pairs of images the way the network's training pairs were read.

    Raises:
        InputError: files are missing or cannot be paired.
    """
    model = predictor.model
    return ImageDataset(
        input,
        target,
        collapse_channels=model["collapse_channels"],
        labels=model["labels"] or None,
        ignore=model["ignore"],
        mask_path_specifier=mask,
        ndim=predictor.ndim,
        slab=model["slab"],
    )


def evaluate(
    predictor: Predictor, pairs: ImageDataset, tick: Callable[[int], None] = lambda index: None
) -> Evaluation:
    """Apply the network to all pairs and measure.

    Args:
        predictor: the network.
        pairs: inputs and targets.
        tick: called with the index after each pair.

    Raises:
        InputError: a file cannot be used.
    """
    labels, data_range = predictor.model["labels"], _data_range(predictor)
    outputs, inputs = build_metrics(labels, data_range), build_metrics(labels, data_range)
    images, comparable = [], not labels
    for index in range(len(pairs)):
        sample = finite_sample(pairs, index)
        predictor.check(sample.input, pairs.name(index))
        _check_target(predictor, sample.target, pairs.target_name(index))
        output = predictor(sample.input, pairs.name(index)).unsqueeze(0)
        target = sample.target.unsqueeze(0)
        mask = None if sample.mask is None else sample.mask.unsqueeze(0)
        images.append({"image": pairs.name(index), **outputs.update(output, target, mask)})
        input = central_slice(sample.input, pairs.slab)
        comparable = comparable and input.shape == sample.target.shape
        if comparable:
            inputs.update(input.unsqueeze(0), target, mask)
        tick(index)
    return Evaluation(images, outputs.compute(), inputs.compute() if comparable else None)


def _check_target(predictor: Predictor, target: Tensor, name: str) -> None:
    expected = 1 if predictor.label_map else predictor.model["architecture"]["c_out"]
    if target.shape[0] != expected:
        raise InputError(
            f"{name}: the target has {target.shape[0]} channels, the model gives {expected}"
        )


def draw(predictor: Predictor, pairs: ImageDataset, evaluation: Evaluation, path: Path) -> None:
    """Draw input | output | target of the best, a typical and the worst image as a PNG."""
    labels = predictor.model["labels"]
    key = "accuracy" if labels else "psnr"
    order = np.argsort([-image[key] for image in evaluation.images])
    ranks = {"best": order[0], "typical": order[len(order) // 2], "worst": order[-1]}
    rows = [
        compare(
            pairs.sample(int(index), central_only=True),
            predictor(pairs.sample(int(index)).input),
            len(labels),
            _data_range(predictor),
            f"{rank}, {Path(pairs.name(int(index))).name}",
        )
        for rank, index in ranks.items()
    ]
    save_comparisons(path, rows[: len(pairs)], len(labels))


def _data_range(predictor: Predictor) -> float:
    return predictor.model["normalisation"]["data_range"]

"""How well a trained network does on pairs of images."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from msdtool.atomic import atomic_path
from msdtool.data import ImageStack
from msdtool.data.datasets import finite_sample
from msdtool.data.inputs import MeasuredPairs
from msdtool.data.specifiers import Specifier
from msdtool.errors import InputError
from msdtool.predict import Predictor
from msdtool.report.pictures import save_comparisons
from msdtool.runs.rundir import writing
from msdtool.train.build import build_metrics
from msdtool.train.metrics import Metrics
from msdtool.train.pictures import compare


@dataclass
class Evaluation:
    """Metrics of a network over a data set.

    Attributes:
        images: per image, its input file and metrics.
        outputs: metrics of the network's outputs over all images.
        inputs: metrics of the inputs as they are, where they can be compared with the targets.
    """

    images: list[dict[str, Any]]
    outputs: Metrics
    inputs: Metrics | None

    @property
    def output(self) -> dict[str, Any]:
        """The outputs' metrics by name."""
        return self.outputs.compute()

    @property
    def input(self) -> dict[str, Any] | None:
        """The inputs' metrics by name."""
        return None if self.inputs is None else self.inputs.compute()


def open_pairs(
    predictor: Predictor,
    input: Sequence[Specifier],
    target: Specifier,
    mask: Specifier | None,
) -> MeasuredPairs:
    """Open pairs of images the way the network's training pairs were read.

    Args:
        predictor: the network.
        input: a specifier of images, or one for each split.
        target: a specifier.
        mask: likewise.

    Raises:
        InputError: files are missing or cannot be paired.
    """
    model = predictor.model
    inputs, files = predictor.open_inputs(input)
    targets = ImageStack(
        target,
        collapse_channels=model["collapse_channels"],
        labels=model["labels"] or None,
        ignore=model["ignore"],
        ndim=predictor.ndim,
    )
    masks = None
    if mask is not None:
        masks = ImageStack(mask, collapse_channels=True, ndim=predictor.ndim)
    return MeasuredPairs(inputs, files, targets, masks, model["slab"])


def evaluate(
    predictor: Predictor,
    pairs: MeasuredPairs,
    tick: Callable[[int], None] = lambda index: None,
    share: Sequence[int] | None = None,
) -> Evaluation:
    """Apply the network to pairs and measure.

    Args:
        predictor: the network.
        pairs: inputs and targets.
        tick: called after each pair with its number, from 0.
        share: indices of the pairs to take; None: all.

    Raises:
        InputError: a file cannot be used.
    """
    labels, data_range = predictor.model["labels"], _data_range(predictor)
    outputs, inputs = build_metrics(labels, data_range), build_metrics(labels, data_range)
    images, comparable = [], not labels
    _check_scale(predictor, pairs)
    for number, index in enumerate(range(len(pairs)) if share is None else share):
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
        tick(number)
    return Evaluation(images, outputs, inputs if comparable else None)


def _check_scale(predictor: Predictor, pairs: MeasuredPairs) -> None:
    found, given = pairs.scale, predictor.network.scale
    if found != given:
        raise InputError(
            f"{pairs.target_name(0)}: the target is {found} times as large as its input, the model "
            f"gives images {given} times as large"
        )


def _check_target(predictor: Predictor, target: Tensor, name: str) -> None:
    expected = 1 if predictor.label_map else predictor.model["architecture"]["c_out"]
    if target.shape[0] != expected:
        raise InputError(
            f"{name}: the target has {target.shape[0]} channels, the model gives {expected}"
        )


def draw(predictor: Predictor, pairs: MeasuredPairs, evaluation: Evaluation, path: Path) -> None:
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


# In parts ------------------------------------------------------------------------------------


class PartFiles:
    """A folder where the parts of an evaluation meet, each in a file of its own.

    Args:
        folder: it need not exist.
        predictor: the network.
        specifiers: what was evaluated, by the names of the options.
        count: the number of parts.
    """

    def __init__(
        self, folder: Path, predictor: Predictor, specifiers: Mapping[str, Any], count: int
    ) -> None:
        self.folder = folder
        self.predictor = predictor
        self.count = count
        weights = (tensor.numpy().tobytes() for tensor in predictor.model["state"].values())
        self.identity = {
            "network": hashlib.sha256(b"".join(weights)).hexdigest(),
            **specifiers,
        }

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{part:04}-of-{self.count:04}.json"

    @property
    def missing(self) -> list[int]:
        """The parts that are not there yet."""
        return [part for part in range(self.count) if not self.path(part).exists()]

    def save(self, part: int, evaluation: Evaluation) -> None:
        """Write a part; one that is there is replaced.

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
        with writing(path), atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def load(self) -> Evaluation:
        """Put all parts together, the images in the order of the whole.

        Raises:
            InputError: a part belongs to another evaluation.
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
                f"{path}: is of another evaluation, its {', '.join(differing)} differs; choose "
                "another folder, or remove the files"
            )
        metrics = [
            build_metrics(self.predictor.model["labels"], _data_range(self.predictor))
            for _ in range(2)
        ]
        outputs, inputs = metrics
        outputs.load_state(content["outputs"])
        if content["inputs"] is None:
            return Evaluation(content["images"], outputs, None)
        inputs.load_state(content["inputs"])
        return Evaluation(content["images"], outputs, inputs)

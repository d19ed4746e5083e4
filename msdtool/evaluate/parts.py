"""Partial results of an evaluation that several processes share."""

import json
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from msdtool.atomic import atomic_path
from msdtool.data.inputs import MeasuredPairs
from msdtool.errors import InputError
from msdtool.evaluate.measure import Evaluation
from msdtool.evaluate.part_content import read_part
from msdtool.file_errors import cannot_read, cannot_write
from msdtool.predict import Predictor
from msdtool.special_files import read_regular

FORMAT = 4
"""Of the partial results; those of earlier versions lack what is measured now."""
MAX_BYTES = 1_000_000_000
"""Size of the largest partial result that is read; a thousand images take about a megabyte."""


class PartFiles:
    """A shared folder for partial results of an evaluation, one file for each part.

    Args:
        folder: it need not exist.
        predictor: the network.
        specifiers: what is evaluated, by the names of the options.
        pairs: what they name.
        count: the number of parts.
        data_range: value range that PSNR and SSIM refer to.
    """

    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        specifiers: Mapping[str, Any],
        pairs: MeasuredPairs,
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
            "pairs": len(pairs),
            "files": pairs.version(),
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
        inputs, reliability = evaluation.input_metrics, evaluation.reliability
        content = {
            **self.identity,
            "images": evaluation.images,
            "outputs": evaluation.output_metrics.state(),
            "inputs": None if inputs is None else inputs.state(),
            "reliability": None if reliability is None else reliability.state(),
        }
        path = self.path(part)
        with cannot_write(path), atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def load(self) -> Evaluation:
        """Return the evaluation of all parts, its images in their original order.

        Raises:
            InputError: a part is of another evaluation, or damaged.
        """
        parts = [self._load(part) for part in range(self.count)]
        total, *others = parts
        for other in others:
            total.output_metrics.add(other.output_metrics)
            if total.reliability is not None and other.reliability is not None:
                total.reliability.add(other.reliability)
            if total.input_metrics is not None and other.input_metrics is not None:
                total.input_metrics.add(other.input_metrics)
            else:
                total.input_metrics = None
        rounds = zip_longest(*(part.images for part in parts))
        total.images = [image for row in rounds for image in row if image is not None]
        return total

    def _load(self, part: int) -> Evaluation:
        path = self.path(part)
        with cannot_read(path, InputError):
            text = read_regular(path, MAX_BYTES)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self._damaged(part, "is not a JSON object")
        differing = [key for key, value in self.identity.items() if content.get(key) != value]
        if differing:
            raise InputError(
                f"{path}: belongs to another evaluation (different {', '.join(differing)}); choose "
                f"another folder, or remove the file and measure part {part} again"
            )
        expected = len(range(part, self.identity["pairs"], self.count))
        try:
            model = self.predictor.model
            bounds = model.interval > 0
            return read_part(content, model.labels, self.data_range, expected, bounds=bounds)
        except ValueError as error:
            raise self._damaged(part, str(error)) from None

    def _damaged(self, part: int, reason: str) -> InputError:
        return InputError(
            f"{self.path(part)}: is damaged: {reason}; remove the file and measure part {part} "
            "again"
        )

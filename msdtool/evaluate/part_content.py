"""What the file of a part of an evaluation holds, checked: it may be damaged or edited."""

import math
from collections.abc import Sequence
from typing import Any

from msdtool.evaluate.measure import Evaluation
from msdtool.measure.calibration import Reliability
from msdtool.measure.metrics import (
    Metrics,
    SegmentationMetrics,
    build_metrics,
    label_counts,
)
from msdtool.measure.surfaces import NAMES as SURFACE_NAMES
from msdtool.plain_data import fits, shown
from msdtool.runs.rows import LABEL_METRICS

BY_LABEL = (*LABEL_METRICS, *SURFACE_NAMES)


def read_part(
    content: dict[str, Any],
    labels: Sequence[int],
    data_range: float,
    count: int,
    *,
    bounds: bool = False,
) -> Evaluation:
    """Return the evaluation that a file holds.

    Args:
        content: of the file: "images", "outputs", "inputs" and "reliability".
        labels: of the network; empty for a regression.
        data_range: value range that PSNR and SSIM refer to.
        count: number of images of the part.
        bounds: the network outputs bounds of its results.

    Raises:
        ValueError: it holds something else, or contradicts itself; names the key.
    """
    images = content.get("images")
    if not isinstance(images, list) or len(images) != count:
        raise ValueError(f"images is {shown(images)}; expected a list of {count}")
    outputs = build_metrics(labels, data_range, bounds=bounds)
    names = getattr(outputs, "NAMES", ())
    for number, image in enumerate(images):
        _check_image(image, labels, names, f"images[{number}]")
    _load(outputs, content, "outputs")
    _check_agreement(outputs, images)
    inputs = None
    if content.get("inputs") is not None:
        inputs = build_metrics(labels, data_range)
        _load(inputs, content, "inputs")
    reliability = None
    if isinstance(outputs, SegmentationMetrics):
        reliability = Reliability()
        try:
            reliability.load_state(content.get("reliability"), int(outputs.confusion.sum()))
        except ValueError as error:
            raise ValueError(f"reliability is {error}") from None
    return Evaluation(images, outputs, inputs, reliability)


def _load(metrics: Metrics, content: dict[str, Any], key: str) -> None:
    try:
        metrics.load_state(content.get(key, []))
    except ValueError as error:
        raise ValueError(f"{key} is {error}") from None


def _check_image(image: Any, labels: Sequence[int], names: Sequence[str], name: str) -> None:
    """Check the values of an image: see `Evaluation.images`."""
    expected: dict[str, Any] = {"image": str, "target_digest": str}
    if labels:
        expected |= dict.fromkeys(("accuracy", "mean_iou", "mean_dice"), float)
        expected |= dict.fromkeys(BY_LABEL, dict[str, float]) | {"pixels": dict[str, list[int]]}
    else:
        expected |= dict.fromkeys(names, float)
    if not isinstance(image, dict) or image.keys() != expected.keys():
        raise ValueError(f"{name} is {shown(image)}; expected {', '.join(expected)}")
    known = [str(label) for label in labels]
    for key, hint in expected.items():
        value = image[key]
        if not fits(value, hint) or (isinstance(value, dict) and list(value) != known):
            wanted = f"values of the labels {', '.join(known)}" if key in BY_LABEL else "a value"
            raise ValueError(f"{name}.{key} is {shown(value)}; expected {wanted}")
    if any(len(counts) != 3 for counts in image.get("pixels", {}).values()):
        raise ValueError(f"{name}.pixels is {shown(image['pixels'])}; expected 3 counts per label")


def _check_agreement(outputs: Metrics, images: Sequence[dict[str, Any]]) -> None:
    """Check that what was accumulated is of these images."""
    state = outputs.state()
    found: list[Any]
    expected: list[Any]
    if isinstance(outputs, SegmentationMetrics):
        found = label_counts(outputs.confusion).t().tolist()
        expected = [
            [sum(image["pixels"][str(label)][place] for image in images) for place in range(3)]
            for label in outputs.labels
        ]
    else:
        # Of an image whose mask leaves nothing, nothing was accumulated.
        found, expected = (_errors(rows) for rows in (state, images))
    if found != expected or len(state) > max(len(images), len(found)):
        raise ValueError(f"outputs is {shown(state)}; expected that of the images")


def _errors(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["mse"] for row in rows if not math.isnan(row["mse"])]

"""Evaluations of runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msdtool.measure.differences import paired_differences
from msdtool.runs.evaluations import read_evaluation
from msdtool.runs.rundir import RunDirectory


def read_evaluations(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the last evaluation of each run that has one, by the run's path.

    Raises:
        ModelFileError: a file cannot be read.
    """
    found = {str(path): read_evaluation(RunDirectory(path)) for path in paths}
    return {name: content for name, content in found.items() if content is not None}


def comparable(first: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two evaluations are of the same targets and masks, measured alike."""
    return _measured(first) == _measured(other)


def _measured(content: dict[str, Any]) -> Any:
    """What must agree; targets by content, as files may have been moved or inputs changed."""
    targets = [image["target_digest"] for image in content["images"]]
    return targets, content["output"].get("data_range")


def compare(evaluations: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what each run differs by from the first one, image by image, by the run's path.

    Runs that were not evaluated on the targets of the first one are left out; see
    `paired_differences`.
    """
    if not evaluations:
        return {}
    first, *others = evaluations.items()
    return {
        name: paired_differences(first[1]["images"], content["images"])
        for name, content in others
        if comparable(first[1], content)
    }


def in_short(evaluation: dict[str, Any] | None) -> dict[str, Any] | None:
    """An evaluation with the number of its images in place of their metrics."""
    if evaluation is None:
        return None
    return {**evaluation, "images": len(evaluation["images"])}

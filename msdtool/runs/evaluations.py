"""The last evaluation of a run, kept in its directory for comparisons with other runs."""

import hashlib
import json
from typing import Any

from msdtool import strict_json
from msdtool.atomic import atomic_path
from msdtool.errors import ModelFileError
from msdtool.file_errors import cannot_read, cannot_write
from msdtool.plain_data import fits
from msdtool.runs.checkpoint import open_file
from msdtool.runs.rundir import MAX_BYTES, RunDirectory
from msdtool.special_files import read_regular

Content = dict[str, Any]
Number = float | None
"""None stands for one that is not finite."""
FORM: dict[str, Any] = {
    "network": str | None,
    "output": dict[str, Number | dict[str, Number]],
    "intervals": dict[str, list[Number] | dict[str, list[Number]]],
    "images": list[dict[str, str | Number | dict[str, Number | list[int]]]],
    "confusion": dict[str, Any] | None,
}


def save_evaluation(directory: RunDirectory, content: Content) -> None:
    """Write report/evaluation.json, atomically, or replace it.

    Args:
        directory: of the run whose network was evaluated.
        content: plain data; NaN and infinite numbers become null.

    Raises:
        Error: it cannot be written.
    """
    text = strict_json.dumps({"network": _network(directory), **content})
    with cannot_write(directory.evaluation), atomic_path(directory.evaluation) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_evaluation(directory: RunDirectory) -> Content | None:
    """Return what `save_evaluation` wrote; None if the run's network was not evaluated.

    The evaluation of an earlier network of the run, which has been trained on since, is none.

    Raises:
        ModelFileError: the file is there and cannot be read.
    """
    path = directory.evaluation
    if not path.exists():
        return None
    with cannot_read(path, ModelFileError):
        text = read_regular(path, MAX_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not _is_evaluation(content):
        raise ModelFileError(f"{path}: is not an evaluation; remove it, and evaluate the run again")
    return content if content["network"] == _network(directory) else None


def _is_evaluation(content: Any) -> bool:
    """Whether content has the form of what `save_evaluation` writes: see `Evaluation.to_dict`."""
    if not isinstance(content, dict) or not all(
        key in content and fits(content[key], hint) for key, hint in FORM.items()
    ):
        return False
    if not all(isinstance(image.get("target_digest"), str) for image in content["images"]):
        return False
    found = content["confusion"]
    if found is None:
        return True
    labels, pixels = found.get("labels"), found.get("pixels")
    are_counts = fits(labels, list[int]) and fits(pixels, list[list[int]])
    return are_counts and [len(row) for row in (labels, *pixels)] == [len(pixels)] * (
        1 + len(pixels)
    )


def _network(directory: RunDirectory) -> str | None:
    """A hash of the checkpoint that evaluations of the run use; None if there is none."""
    path = directory.model
    if path is None:
        return None
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

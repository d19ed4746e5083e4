"""The last evaluation of a run, kept in its directory for comparisons with other runs."""

import hashlib
import json
from typing import Any

from msdtool import strict_json
from msdtool.atomic import atomic_path
from msdtool.errors import ModelFileError
from msdtool.file_errors import cannot_read, cannot_write
from msdtool.runs.checkpoint import open_file
from msdtool.runs.rundir import MAX_BYTES, RunDirectory
from msdtool.special_files import read_regular

Content = dict[str, Any]


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
        content: Content = json.loads(text)
        known = content["network"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelFileError(
            f"{path}: is not an evaluation; remove it, and evaluate the run again"
        ) from None
    return content if known == _network(directory) else None


def _network(directory: RunDirectory) -> str | None:
    """A hash of the checkpoint that evaluations of the run use; None if there is none."""
    path = directory.model
    if path is None:
        return None
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A page of runs to be shown: one HTML file that needs no other."""

import json
import shlex
from pathlib import Path
from typing import Any

from msdtool.config import leaves, load_saved_config
from msdtool.errors import ConfigError, ModelFileError
from msdtool.file_errors import cannot_read
from msdtool.plain_data import fits
from msdtool.report.curves import draw_curves
from msdtool.report.html import save_html
from msdtool.report.panels import Preview, cut
from msdtool.report.pictures import png
from msdtool.report.tables import Results, Table, tables
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import MAX_BYTES, RANKS, RunDirectory
from msdtool.special_files import read_regular
from msdtool.wording import number, readable

MAX_LABELS = 40
"""Labels of the largest confusion matrix that is shown."""
FACTS = ("device", "engine", "platform", "cpus", "processes")
"""What is shown of environment.json beside versions; names of machines are not."""


def save_page(path: Path, results: Results) -> None:
    """Write a page of runs: tables, curves, previews, data, config, versions, how to reproduce.

    Of a preview the panels are compared by a slider. What a run does not hold is left out.

    Args:
        path: the HTML file, which must be missing, empty, or a page written before.
        results: of the runs, by the paths of their directories.

    Raises:
        ModelFileError: a file of a run is damaged or cannot be read.
        ConfigError: something else has the name.
        Error: the page cannot be written.
    """
    names = list(results.rows)
    save_html(
        path,
        "page.html",
        title=names[0] if len(names) == 1 else f"{len(names)} runs",
        tables=list(tables(results)),
        curves=png(draw_curves(results.curves)),
        runs=[_run(name, results) for name in names],
    )


def _run(name: str, results: Results) -> dict[str, Any]:
    """What the page tells of one run."""
    directory = RunDirectory(name)
    environment = _environment(directory)
    return {
        "name": name,
        "previews": _previews(directory),
        "facts": [*_data(directory), *_of_checkpoint(directory)],
        "confusion": _confusion(results.evaluations.get(name)),
        "config": _config(directory),
        "versions": [
            *environment.get("versions", {}).items(),
            *((key, environment[key]) for key in FACTS if key in environment),
        ],
        "command": shlex.join(
            ["msdtool", "train", str(directory.config), "--run-dir", f"{directory.path}-again"]
        ),
        "trained_by": shlex.join(["msdtool", *environment["command"][1:]])
        if "command" in environment
        else "",
    }


def _read(path: Path) -> bytes | None:
    """A file of a run; None if there is none."""
    with cannot_read(path, ModelFileError):
        return read_regular(path, MAX_BYTES) if path.exists() else None


def _previews(directory: RunDirectory) -> dict[str, Preview]:
    """The pictures of the images that were chosen in training, by which they are."""
    found = {}
    for rank in RANKS:
        path = directory.previews / f"{rank}.png"
        content = _read(path)
        if content is not None:
            found[rank] = cut(content, path)
    return found


def _config(directory: RunDirectory) -> str:
    return (_read(directory.config) or b"").decode("utf-8", "replace")


def _data(directory: RunDirectory) -> list[tuple[str, str]]:
    """The settings of the data; none of a config that cannot be read, which was warned of."""
    if not directory.config.exists():
        return []
    try:
        found = leaves(load_saved_config(directory.config))
    except ConfigError:
        return []
    return [
        (key.removeprefix("data."), readable(value))
        for key, value in found.items()
        if key.startswith("data.") and value is not None
    ]


def _of_checkpoint(directory: RunDirectory) -> list[tuple[str, str]]:
    """How many pairs were trained on, and what their values are like."""
    path = directory.last if directory.last.exists() else directory.model
    if path is None:
        return []
    checkpoint = load_checkpoint(path)
    pairs = checkpoint.training.get("num_pairs")
    counts: dict[str, int] = pairs if pairs and fits(pairs, dict[str, int]) else {}
    values = checkpoint.model.normalisation.to_dict()
    return [
        *((f"pairs, {kind}", number(count)) for kind, count in counts.items()),
        *(
            (
                key.replace("_", " ").replace("std", "standard deviation"),
                readable(value),
            )
            for key, value in values.items()
            if value
        ),
    ]


def _confusion(evaluation: dict[str, Any] | None) -> Table | None:
    """Pixels by label of the target, in lines, and of the output, in columns."""
    if evaluation is None or evaluation["confusion"] is None:
        return None
    labels, pixels = (evaluation["confusion"][key] for key in ("labels", "pixels"))
    if len(labels) > MAX_LABELS:
        return Table(f"pixels of {len(labels)} labels: see report/evaluation.json of the run", [])
    rows = [
        [str(label), *(f"{count:,}" for count in row)]
        for label, row in zip(labels, pixels, strict=True)
    ]
    return Table("pixels by label", [["target \\ output", *map(str, labels)], *rows])


def _environment(directory: RunDirectory) -> dict[str, Any]:
    """Return environment.json; nothing if there is none.

    Raises:
        ModelFileError: it is damaged.
    """
    content = _read(directory.environment)
    if content is None:
        return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, dict)
        or not fits(found.get("versions", {}), dict[str, str])
        or not fits(found.get("command", []), list[str])
    ):
        raise ModelFileError(f"{directory.environment}: is damaged; remove it, or restore the file")
    return found

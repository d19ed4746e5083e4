"""msdtool info"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from msdtool.cli import console
from msdtool.cli.console import clock, number
from msdtool.cli.imports import no_collection
from msdtool.cli.options import Json
from msdtool.errors import ConfigError, ModelFileError
from msdtool.file_errors import cannot_read, expand_home

MODEL_SUFFIXES = (".pt", ".pth", ".ckpt")
ZIP = b"PK"
"""How a checkpoint begins."""
PATTERN = re.compile(r"[*?\[{]|::")
"""What specifiers of images have, and names of folders do not."""


def command(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A run directory, a checkpoint, or a file of images, such as a.h5::/data.",
        ),
    ],
    ndim: Annotated[
        int, typer.Option(metavar="2|3", help="Whether an image has two or three spatial axes.")
    ] = 2,
    json: Json = False,
) -> None:
    """Show the contents of a run directory, a checkpoint, or a file of images.

    Of images: axes, shape, pixel size and what else the file says about itself.

    Example: msdtool info runs/denoise
    """
    if ndim not in (2, 3):
        raise ConfigError(f"--ndim: got {ndim}; allowed: 2, 3")
    facts = (
        _of_model(path)
        if _is_model(expand_home(path, ModelFileError))
        else _of_images(str(path), ndim)
    )
    if json:
        console.result_json(facts)
        return
    facts.pop("config", None)
    if "pixels" in facts:
        facts["pixels"] = [_distance(letter, **step) for letter, step in facts["pixels"].items()]
    else:
        facts |= _for_people(facts)
    facts = {key: value for key, value in facts.items() if value not in (None, False, [], {})}
    console.result(console.table({key: _line(value) for key, value in facts.items()}))


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """What is said otherwise, or not at all, to those who only look at a model."""
    progress = facts["progress"]
    metrics = facts["metrics"] or {}
    told = {
        "epoch": progress["epoch"],
        "updates": progress["step"],
        "best epoch": progress["best_epoch"],
        "best loss": progress["best_loss"] if progress["best_epoch"] else None,
        "time": clock(progress["seconds"]),
        "ended": progress["finished"] or "not yet",
    }
    architecture = {key: value for key, value in facts["architecture"].items() if value is not None}
    normalisation = {
        key: value for key, value in facts["normalisation"].items() if value not in ([], 0)
    }
    return {
        "architecture": architecture,
        "normalisation": normalisation,
        "progress": {key: value for key, value in told.items() if value is not None},
        "metrics": {key: value for key, value in metrics.items() if isinstance(value, float)},
    }


def _distance(letter: str, size: float, unit: str, start: float) -> str:
    """How far pixels are apart along an axis."""
    origin = f" from {number(start)}" if start else ""
    return f"{letter} {number(size)} {unit}{origin}".rstrip()


def _is_model(place: Path) -> bool:
    """Whether a path is not one of images, of a pattern of such or of an array in a file."""
    with no_collection():
        from msdtool.data.containers.zarr import is_zarr

    with cannot_read(place, ModelFileError):
        if place.is_dir():
            return not is_zarr(place)
    if place.suffix.lower() in MODEL_SUFFIXES:
        return True
    if not place.is_file():
        return not (place.suffix or PATTERN.search(str(place)))
    if place.suffix:
        return False
    with place.open("rb") as file:
        return file.read(len(ZIP)) == ZIP


def _of_model(path: Path) -> dict[str, Any]:
    with no_collection():
        from msdtool.runs.checkpoint import find_model, load_checkpoint

    file = find_model(path)
    checkpoint = load_checkpoint(file)
    content = checkpoint.model
    return {
        "checkpoint": str(file),
        "task": content.task,
        "architecture": content.architecture.to_dict(),
        "parameters": content.num_parameters,
        "labels": list(content.labels) or None,
        "ignore": content.ignore,
        "collapse_channels": content.collapse_channels,
        "scaling": str(content.normalising),
        "normalisation": content.normalisation.to_dict(),
        "progress": asdict(checkpoint.progress),
        "metrics": checkpoint.metrics,
        "config": checkpoint.config,
        "versions": checkpoint.versions,
    }


def _of_images(path: str, ndim: int) -> dict[str, Any]:
    with no_collection():
        from msdtool.data.build import locate
        from msdtool.data.facts import file_facts

    locations = locate([path])
    if len(locations) > 1:
        raise ConfigError(f"{path}: names {len(locations)} files; name one of them")
    return file_facts(locations[0], ndim)


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_line(item) for item in value) + "]"
    return number(value)

"""msdtool info"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from msdtool.cli import console
from msdtool.cli.console import clock
from msdtool.cli.imports import no_collection
from msdtool.cli.options import Json
from msdtool.errors import ConfigError, ModelFileError
from msdtool.file_errors import cannot_read, expand_home
from msdtool.wording import number

MODEL_SUFFIXES = (".pt", ".pth", ".ckpt")
ZIP = b"PK"
"""How a checkpoint begins."""
METRICS = {"psnr": "PSNR", "ssim": "SSIM", "mean_iou": "mean IoU", "mean_dice": "mean Dice"}
NOT_METRICS = ("seconds", "data_seconds", "learning_rate", "gradient_norm", "data_range")
"""What a row of metrics.jsonl tells besides."""
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

    For images: axes, shape, pixel size and what else the file says about itself.

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
    if "progress" in facts:
        facts = _for_people(facts)
    else:
        facts["pixels"] = [_distance(letter, **step) for letter, step in facts["pixels"].items()]
    facts = {key: value for key, value in facts.items() if value not in (None, False, [], {})}
    console.result_text(console.table({key: _line(value) for key, value in facts.items()}))


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """A model's facts in the words of those who only look at it."""
    progress, metrics = facts["run_progress"] or facts["progress"], facts["metrics"] or {}
    best = f"{progress['best_epoch']}, {_best_value(facts['config'], progress['best_loss'])}"
    return {
        "checkpoint": facts["checkpoint"],
        "task": facts["task"],
        "network": _network(facts["architecture"]),
        "parameters": f"{facts['parameters']:,}",
        "labels": facts["labels"],
        "not labelled": facts["ignore"],
        "channels": "averaged" if facts["collapse_channels"] else None,
        "interval": f"holds {facts['interval']:.4g} of targets" if facts["interval"] else None,
        **_values(facts["normalisation"]),
        "trained": f"{progress['epoch']} epochs, {progress['step']} updates, "
        f"{clock(progress['seconds'])}",
        "ended": progress["finished"] or "not yet",
        "best epoch": best if progress["best_epoch"] else None,
        "metrics": {
            _in_words(key): value
            for key, value in metrics.items()
            if isinstance(value, float) and key not in NOT_METRICS
        },
        "versions": facts["versions"],
    }


def _best_value(config: dict[str, Any], best: float) -> str:
    """The value by which the best epoch was chosen."""
    training = config.get("training")
    select = training.get("select", "loss") if isinstance(training, dict) else "loss"
    return (
        f"loss {number(best)}" if select == "loss" else f"{_in_words(str(select))} {number(-best)}"
    )


def _in_words(key: str) -> str:
    for name, words in METRICS.items():
        key = key.replace(name, words)
    return key.replace("_", " ")


def _network(architecture: dict[str, Any]) -> str:
    """An architecture in a line; the names of what is beside the MSD network are those of YAML."""
    given = {key: value for key, value in architecture.items() if value is not None}
    ndim, depth, width = given.pop("ndim"), given.pop("depth"), given.pop("width")
    channels = f"{given.pop('c_in')} -> {given.pop('c_out')} channels"
    dilations, padding = _line(given.pop("dilations")), given.pop("padding")
    text = (
        f"MSD {ndim}D, depth {depth}, width {width}, {channels}, dilations {dilations}, "
        f"{padding} padding"
    )
    return f"{text}, {_line(given)}" if given else text


def _values(normalisation: dict[str, Any]) -> dict[str, Any]:
    """Statistics of the training images: by channel, or once if all are alike."""
    found: dict[str, Any] = {}
    for name in ("input", "target"):
        mean, std = normalisation[f"{name}_mean"], normalisation[f"{name}_std"]
        if mean:
            means, stds = _line(_once(mean)), _line(_once(std))
            found[f"{name} values"] = f"mean {means}, standard deviation {stds}"
    found["value range"] = normalisation["data_range"] or None
    found["pixels by label"] = normalisation["label_counts"]
    return found


def _once(values: list[float]) -> Any:
    return values[0] if len(set(values)) == 1 else values


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
        from msdtool.runs.rundir import RunDirectory

    file = find_model(path)
    checkpoint = load_checkpoint(file)
    content = checkpoint.model
    last = RunDirectory(path).last  # how far the run has come; the best network is an earlier one
    latest = load_checkpoint(last).progress if path.is_dir() and last.exists() else None
    return {
        "checkpoint": str(file),
        "task": content.task,
        "architecture": content.architecture.to_dict(),
        "parameters": content.num_parameters,
        "labels": list(content.labels) or None,
        "ignore": content.ignore,
        "collapse_channels": content.collapse_channels,
        "scaling": str(content.scaling),
        "interval": content.interval or None,
        "normalisation": content.normalisation.to_dict(),
        "progress": asdict(checkpoint.progress),
        "run_progress": None if latest is None else asdict(latest),
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

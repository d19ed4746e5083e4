"""msdtool info"""

from dataclasses import asdict
from typing import Any

from msdtool.cli import console
from msdtool.cli.console import number
from msdtool.cli.imports import no_collection
from msdtool.cli.options import Json, ModelPath


def command(model: ModelPath, json: Json = False) -> None:
    """Show the contents of a run directory or checkpoint.

    Example: msdtool info runs/denoise
    """
    with no_collection():
        from msdtool.runs.checkpoint import find_model, load_checkpoint

    file = find_model(model)
    checkpoint = load_checkpoint(file)
    content = checkpoint.model
    facts: dict[str, Any] = {
        "checkpoint": str(file),
        "task": content.task,
        "architecture": content.architecture.to_dict(),
        "parameters": content.num_parameters,
        "labels": list(content.labels) or None,
        "ignore": content.ignore,
        "collapse_channels": content.collapse_channels,
        "normalisation": content.normalisation.to_dict(),
        "progress": asdict(checkpoint.progress),
        "metrics": checkpoint.metrics,
        "config": checkpoint.config,
        "versions": checkpoint.versions,
    }
    if json:
        console.result_json(facts)
        return
    del facts["config"]
    console.result(console.table({key: _line(value) for key, value in facts.items()}))


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_line(item) for item in value) + "]"
    return number(value)

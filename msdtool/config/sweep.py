"""A grid of settings: one experiment for each combination of values."""

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import product
from json import dumps
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from msdtool.config.experiment import ExperimentConfig
from msdtool.config.load import directory_override, load_config
from msdtool.config.yaml_file import parse_value
from msdtool.errors import ConfigError

MAX_RUNS = 10_000
MAX_NAME = 100


class Trial(NamedTuple):
    """One combination of values.

    Attributes:
        name: of its run directory, made of the settings that vary.
        config: the experiment.
    """

    name: str
    config: ExperimentConfig


def plan_sweep(
    path: Path, settings: Sequence[str], folder: Path, label: str = "setting"
) -> list[Trial]:
    """Return an experiment for each combination of values; those of the last key vary fastest.

    Args:
        path: the YAML file of the experiment.
        settings: "key=value,value,..." items, the values as in a YAML list. A key with one value
            has it in all experiments.
        folder: where the run directories lie.
        label: what messages call a setting.

    Raises:
        ConfigError: a setting or a combination is wrong, a key is named twice, or none varies.
    """
    grid: dict[str, list[Any]] = {}
    for item in settings:
        key, values = _parsed(item, f"{label} {item}")
        if key in grid:
            raise ConfigError(f"{label} {item}: {key} is named twice; list all its values at once")
        if key == "run.directory":
            raise ConfigError(f"{label} {item}: each run has a folder of its own in {folder}")
        grid[key] = values
    varying = [key for key, values in grid.items() if len(values) > 1]
    if not varying:
        raise ConfigError(
            f"{label}: no key has several values, such as network.depth=30,100; one experiment "
            "alone is trained by msdtool train"
        )
    total = prod(len(values) for values in grid.values())
    if total > MAX_RUNS:
        raise ConfigError(f"{label}: {total} combinations of values; at most {MAX_RUNS} are tried")
    trials = []
    for combination in product(*grid.values()):
        chosen = dict(zip(grid, combination, strict=True))
        name = _name({key: chosen[key] for key in varying})
        overrides = [f"{key}={dumps(value)}" for key, value in chosen.items()]
        overrides.append(directory_override(folder / name))
        trials.append(Trial(name, load_config(path, overrides, label=label)))
    return trials


def _parsed(item: str, origin: str) -> tuple[str, list[Any]]:
    key, _, text = item.partition("=")
    try:
        values = parse_value(f"[{text}]")
    except yaml.YAMLError:
        values = []
    if not values or not key:
        raise ConfigError(f"{origin}: expected key=value,value, such as network.depth=30,100")
    texts = [dumps(value) for value in values]
    repeated = next((text for text in texts if texts.count(text) > 1), None)
    if repeated is not None:
        raise ConfigError(f"{origin}: the value {repeated} is listed twice")
    return key, values


def _name(chosen: dict[str, Any]) -> str:
    """A name such as "depth-30_seed-1"; a digest stands for what no file name should hold."""
    last = [key.rpartition(".")[2] for key in chosen]
    text = "_".join(
        f"{short if last.count(short) == 1 else key}-{_text(value)}"
        for short, (key, value) in zip(last, chosen.items(), strict=True)
    )
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", text)
    if plain == text and len(text) <= MAX_NAME:
        return text
    digest = blake2b(text.encode(), digest_size=4).hexdigest()
    return f"{plain[: MAX_NAME - len(digest) - 1].rstrip('-')}-{digest}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)

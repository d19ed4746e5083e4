"""What the configs of several runs differ in."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msdtool.config import leaves, load_saved_config
from msdtool.errors import ConfigError
from msdtool.runs.rundir import RunDirectory
from msdtool.wording import readable

log = logging.getLogger(__name__)

OWN_KEYS = ("run.directory", "training.initial_sha256")
"""What differs between any two runs, or follows from another key."""
MAX_SETTINGS = 3
MAX_LETTERS = 24


def differing_settings(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the config keys in which runs differ, and their values, by the run's path.

    Runs without a config that can be read are left out, with a warning if there is one.
    """
    configs = {}
    for path in paths:
        file = RunDirectory(path).config
        if not file.exists():
            continue
        try:
            configs[str(path)] = leaves(load_saved_config(file))
        except ConfigError as error:
            log.warning(f"{path}: its config is left out: {error.message.splitlines()[0]}")
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    differing = [
        key
        for key in keys
        if key not in OWN_KEYS and any(_differ(config, key, configs) for config in configs.values())
    ]
    return {name: {key: config.get(key) for key in differing} for name, config in configs.items()}


def _differ(config: dict[str, Any], key: str, others: Mapping[str, dict[str, Any]]) -> bool:
    return any(config.get(key) != other.get(key) for other in others.values())


def in_words(settings: Mapping[str, Any]) -> str:
    """A few settings for a legend, such as "depth 30, loss L1"; empty if they are many."""
    if len(settings) > MAX_SETTINGS:
        return ""
    return ", ".join(f"{key.rpartition('.')[2]} {shown(value)}" for key, value in settings.items())


def shown(value: Any) -> str:
    """A setting as a table shows it."""
    text = f"{value:g}" if isinstance(value, float) else readable(value)
    return text if len(text) <= MAX_LETTERS else f"...{text[3 - MAX_LETTERS :]}"

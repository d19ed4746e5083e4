"""A config file and overrides become one validated config; every mistake is reported at once."""

from collections.abc import Iterable, Sequence
from json import dumps
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from msdtool.config.earlier_defaults import with_former_defaults
from msdtool.config.experiment import ExperimentConfig
from msdtool.config.image_schema import ImageSource
from msdtool.config.messages import problems
from msdtool.config.renamed import with_new_names
from msdtool.config.schema import RunConfig
from msdtool.config.yaml_file import (
    KeyPath,
    Origin,
    YamlFile,
    dotted,
    parse_value,
    read_yaml,
    reason,
)
from msdtool.errors import ConfigError
from msdtool.file_errors import expand_home
from msdtool.specifier_grammar import Source, anchor, anchor_path, detach

SPECIFIERS = {
    ("data", part, name, *below)
    for part in ("train", "validation")
    for name in ("input", "target", "mask", "splits")
    for below in ((), ("path",))
}
RUN_DIRECTORY = ("run", "directory")
INITIAL = ("training", "initial")

SECTIONS = ("data", "network", "training", "run")

# What may change when a run is resumed: duration, device and what is logged, not the result.
RESUMABLE_KEYS = {
    ("data", "cache"),
    ("data", "workers"),
    ("run", "directory"),
    ("run", "previews"),
    ("run", "tensorboard"),
    ("training", "checkpoint_every"),
    ("training", "device"),
    ("training", "epochs"),
    ("training", "max_time"),
    ("training", "patience"),
}


def load_config(
    path: str | Path, overrides: Sequence[str] = (), *, label: str = "override"
) -> ExperimentConfig:
    """Read a YAML experiment.

    Relative paths in the file are relative to the file's folder, those in overrides to the current
    folder.

    Args:
        path: the YAML file.
        overrides: "a.b=value" items, the value parsed as YAML; later ones win.
        label: what messages call an override.

    Raises:
        ConfigError: naming every mistake with file, line and key.
    """
    path = expand_home(path, ConfigError)
    file = read_yaml(path)
    tree = _anchored(_with_run_directory(file.tree), path.resolve().parent)
    origins: dict[KeyPath, str] = {}
    for item in overrides:
        origin = f"{label} {item}"
        key, value = _parse_override(item, origin)
        _set(tree, key, _anchored(value, Path.cwd(), key), origin)
        origins[key] = origin
    return validated(tree, file, origins)


def directory_override(folder: Path) -> str:
    """The override that makes ``folder``, relative to the current one, the run directory."""
    # Quoted, since it is a string: a directory may be called 2024 or a#b.
    # Bytes of its name that are not UTF-8 become escapes, which YAML reads as JSON does.
    quoted = dumps(str(folder), ensure_ascii=False).encode("utf-8", "backslashreplace")
    return f"run.directory={quoted.decode()}"


def load_saved_config(path: Path) -> ExperimentConfig:
    """Read the config of a run directory, as the version that wrote it understood it.

    Raises:
        ConfigError: naming every mistake with file, line and key.
    """
    file = read_yaml(path)
    return validated(with_former_defaults(with_new_names(file.tree)), file, {})


def parse_source(text: str) -> Source:
    """Parse images as a command line names them: a path, or a mapping {path: ..., axes: ...}.

    Raises:
        ConfigError: the mapping is wrong.
    """
    if not text.startswith("{"):
        return Source(text)
    try:
        return ImageSource.model_validate(parse_value(text)).to_source()
    except yaml.YAMLError:
        raise ConfigError(f"{text}: not valid YAML; expected {{path: ..., axes: ...}}") from None
    except ValidationError as error:
        place: KeyPath = ("data", "train", "input")
        details: list[ErrorDetails] = [
            {**detail, "loc": (*place, *detail["loc"])} for detail in error.errors()
        ]
    found = [(path[len(place) :], message) for path, message in problems(details)]
    reasons = [f"{dotted(path)}: {message}" if path else message for path, message in found]
    raise ConfigError(f"{text}: {'; '.join(reasons)}")


def dump_config(config: ExperimentConfig) -> str:
    """Return the config, with every default filled in, as YAML."""
    return dump_yaml(config.model_dump(mode="json"))


def dump_yaml(content: dict[str, Any]) -> str:
    """Return plain data as YAML, in its own order."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def leaves(config: ExperimentConfig) -> dict[str, Any]:
    """Return all values of a config by their dotted keys, as plain data."""
    return {dotted(key): value for key, value in _leaves(config.model_dump(mode="json"))}


def changed_keys(before: ExperimentConfig, after: ExperimentConfig) -> list[str]:
    """Keys in which two configs differ so that one cannot continue the other's run.

    Paths of files count as unchanged if they are equal, absolutely or relative to the run
    directory: a project may be moved.
    """
    old, new = (dict(_leaves(config.model_dump(mode="json"))) for config in (before, after))
    folders = [expand_home(config.run.directory, ConfigError) for config in (before, after)]
    return [
        dotted(key)
        for key in {**old, **new}
        if key not in RESUMABLE_KEYS
        and old.get(key) != new.get(key)
        and not (
            key in {*SPECIFIERS, INITIAL} and _are_same_files(old.get(key), new.get(key), *folders)
        )
    ]


def _are_same_files(old: Any, new: Any, old_folder: Path, new_folder: Path) -> bool:
    """Whether two specifiers are equal, or are so relative to the folder of each."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return all(
            _are_same_files(*items, old_folder, new_folder) for items in zip(old, new, strict=True)
        )
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {"path": ""} == new | {"path": ""} and _are_same_files(
            old["path"], new["path"], old_folder, new_folder
        )
    are_texts = isinstance(old, str) and isinstance(new, str)
    return old == new or (are_texts and detach(old, old_folder) == detach(new, new_folder))


def _leaves(tree: dict[str, Any], path: KeyPath = ()) -> Iterable[tuple[KeyPath, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _with_run_directory(tree: dict[str, Any]) -> dict[str, Any]:
    """Name the default run directory, so that it is anchored like one that the file names."""
    run = tree.get("run", {})
    if run is not None and not isinstance(run, dict):
        return tree
    return {**tree, "run": {"directory": RunConfig().directory, **(run or {})}}


def _anchored(value: Any, folder: Path, path: KeyPath = ()) -> Any:
    """Return the value of the key ``path`` with its relative paths made relative to ``folder``."""
    if isinstance(value, dict):
        return {key: _anchored(item, folder, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list) and path in SPECIFIERS:
        return [_anchored(item, folder, path) for item in value]
    if not isinstance(value, str):
        return value
    if path in (RUN_DIRECTORY, INITIAL):
        return anchor_path(value, folder)
    return anchor(value, folder) if path in SPECIFIERS else value


def _parse_override(item: str, origin: str) -> tuple[KeyPath, Any]:
    key, equals, text = item.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"{origin}: expected key=value, such as training.epochs=20")
    try:
        return tuple(key.split(".")), parse_value(text)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{origin}: the value is not valid YAML: {reason(error)}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{origin}: the value is not valid YAML") from None


def _set(tree: dict[str, Any], key: KeyPath, value: Any, origin: str) -> None:
    for depth, part in enumerate(key[:-1]):
        if tree.get(str(part)) is None:
            tree[str(part)] = {}
        tree = tree[str(part)]
        if not isinstance(tree, dict):
            raise ConfigError(
                f"{origin}: {dotted(key[: depth + 1])} is a single value, not a section with keys"
            )
    tree[str(key[-1])] = value


def validated(
    tree: dict[str, Any], file: YamlFile, origins: dict[KeyPath, str]
) -> ExperimentConfig:
    """Return the config of a file whose tree has been changed.

    Args:
        tree: sections and keys.
        file: where they are from, for error messages.
        origins: the overrides that set a key.

    Raises:
        ConfigError: naming every mistake with line and key.
    """
    # An empty section ("run:") means its defaults, as a missing one does.
    tree = {key: {} if value is None and key in SECTIONS else value for key, value in tree.items()}
    try:
        config = ExperimentConfig.model_validate(tree)
        config._origin = Origin(lambda path, message: _line(path, message, file, origins))
        return config
    except ValidationError as error:
        found = problems(error.errors())
    raise ConfigError("\n".join(_line(path, message, file, origins) for path, message in found))


def _line(path: KeyPath, message: str, file: YamlFile, origins: dict[KeyPath, str]) -> str:
    """A problem and where it comes from: an override at, above or below the key, or the file."""
    for key in sorted(origins, key=len, reverse=True):
        if key[: len(path)] == path[: len(key)]:
            return f"{origins[key]}: {dotted(path)}: {message}"
    return f"{file.where(path)}: {dotted(path)}: {message}"

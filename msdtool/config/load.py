"""A config file and overrides become one checked config; every mistake is reported at once."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from msdtool.config.data_schema import ImageSource
from msdtool.config.schema import ExperimentConfig, RunConfig
from msdtool.config.source import KeyPath, Origin, Source, dotted, parse_value, read_source
from msdtool.config.wording import choices
from msdtool.errors import ConfigError

PATH_KEYS = {
    ("data", part, name, *below)
    for part in ("train", "validation")
    for name in ("input", "target", "mask", "splits")
    for below in ((), ("path",))
} | {("run", "directory")}

SECTIONS = ("data", "network", "training", "run")

# What may differ when a run goes on: how long, where and how watched, not what is computed.
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


# What pydantic's error types mean to a user.
EXPECTED = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number not less than {ge:g}",
    "int_type": "a whole number",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number not greater than {le:g}",
    "list_type": "a list, such as [1, 2, 3]",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "too_short": "a list that is not empty",
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read a YAML experiment.

    Relative paths in the file count from the file's folder, those in overrides from the current
    folder.

    Args:
        path: the YAML file.
        overrides: "a.b=value" items, the value parsed as YAML; later ones win.

    Raises:
        ConfigError: naming every mistake with file, line and key.
    """
    path = Path(path).expanduser()
    source = read_source(path)
    tree = _anchor(_with_run_directory(source.tree), path.resolve().parent)
    origins: dict[KeyPath, str] = {}
    for item in overrides:
        key, value = _parse_override(item)
        _set(tree, key, _anchor(value, Path.cwd(), key), item)
        origins[key] = f"--set {item}"
    return _validate(tree, source, origins)


def parse_config(text: str, name: str = "config") -> ExperimentConfig:
    """Check a config given as text, its paths taken as they are.

    Raises:
        ConfigError: naming every mistake with line and key.
    """
    source = Source(text, name)
    return _validate(source.tree, source, {})


def parse_source(text: str) -> str | ImageSource:
    """Read images as a command line names them: a path, or a mapping {path: ..., axes: ...}.

    Raises:
        ConfigError: the mapping is wrong.
    """
    if not text.startswith("{"):
        return text
    try:
        return ImageSource.model_validate(parse_value(text))
    except yaml.YAMLError:
        raise ConfigError(f"{text}: not valid YAML; expected {{path: ..., axes: ...}}") from None
    except ValidationError as error:
        place: KeyPath = ("data", "train", "input")
        problems = [
            (path[len(place) :], message)
            for detail in error.errors()
            for path, message in _problems({**detail, "loc": (*place, *detail["loc"])})
        ]
    reasons = [f"{dotted(path)}: {message}" if path else message for path, message in problems]
    raise ConfigError(f"{text}: {'; '.join(reasons)}")


def dump_config(config: ExperimentConfig) -> str:
    """Return the config, with every default filled in, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed_keys(before: ExperimentConfig, after: ExperimentConfig) -> list[str]:
    """Keys in which two configs differ so that one cannot continue the other's run."""
    old, new = (dict(_leaves(config.model_dump(mode="json"))) for config in (before, after))
    return [
        dotted(key)
        for key in {**old, **new}
        if key not in RESUMABLE_KEYS and old.get(key) != new.get(key)
    ]


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


def _anchor(value: Any, folder: Path, path: KeyPath = ()) -> Any:
    """Make the relative paths below the key ``path`` absolute, counted from ``folder``."""
    if isinstance(value, dict):
        return {key: _anchor(item, folder, (*path, str(key))) for key, item in value.items()}
    if path not in PATH_KEYS:
        return value
    if isinstance(value, list):
        return [_anchor(item, folder, path) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        return f"@{_anchor(value[1:], folder, path)}"
    if isinstance(value, str) and value and not value.startswith("~"):
        if glob.has_magic(value) and path != ("run", "directory"):
            # The folder's own name is no pattern.
            folder = Path(glob.escape(str(folder)))
        return str(folder / value)
    return value


def _parse_override(item: str) -> tuple[KeyPath, Any]:
    key, equals, text = item.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"--set {item}: expected key=value, such as training.epochs=20")
    try:
        return tuple(key.split(".")), parse_value(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {item}: the value is not valid YAML") from None


def _set(tree: dict[str, Any], key: KeyPath, value: Any, item: str) -> None:
    for depth, part in enumerate(key[:-1]):
        if tree.get(str(part)) is None:
            tree[str(part)] = {}
        tree = tree[str(part)]
        if not isinstance(tree, dict):
            raise ConfigError(
                f"--set {item}: {dotted(key[: depth + 1])} is a value, it has no keys below it"
            )
    tree[str(key[-1])] = value


def _validate(
    tree: dict[str, Any], source: Source, origins: dict[KeyPath, str]
) -> ExperimentConfig:
    # An empty section ("run:") means its defaults, as a missing one does.
    tree = {key: {} if value is None and key in SECTIONS else value for key, value in tree.items()}
    try:
        config = ExperimentConfig.model_validate(tree)
        config._origin = Origin(lambda path, message: _line(path, message, source, origins))
        return config
    except ValidationError as error:
        problems = [item for detail in error.errors() for item in _problems(detail)]
    lines = [_line(path, message, source, origins) for path, message in problems]
    raise ConfigError("\n".join(lines))


def _line(path: KeyPath, message: str, source: Source, origins: dict[KeyPath, str]) -> str:
    """A problem with where it comes from: an override at, above or below the key, or the file."""
    for key in sorted(origins, key=len, reverse=True):
        if key[: len(path)] == path[: len(key)]:
            return f"{origins[key]}: {dotted(path)}: {message}"
    return f"{source.where(path)}: {dotted(path)}: {message}"


def _problems(detail: ErrorDetails) -> list[tuple[KeyPath, str]]:
    """Say one pydantic error in a user's words, with the key path it belongs to."""
    path: KeyPath = tuple(part for part in detail["loc"] if not str(part).startswith("<"))
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "keys_disagree":
        return [(tuple(key.split(".")), message) for key, message in context["problems"]]
    if kind == "extra_forbidden":
        allowed = list(_section(path[:-1]).model_fields)
        return [(path, f"unknown key{choices(str(path[-1]), allowed)}")]
    if kind == "missing":
        return [(path, f"missing: {_what_is_missing(path)}")]
    if kind == "literal_error":
        allowed = allowed_values(_field(path).annotation)
        return [(path, f"got {_shown(found)}{choices(found, allowed)}")]
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        allowed = list(_section(path).model_fields)
        return [(path, f"got {_shown(found)}; expected keys below it: {', '.join(allowed)}")]
    if kind == "value_error" and isinstance(found, dict):
        return [(path, str(context["error"]))]
    reason = str(context["error"]) if kind == "value_error" else detail["msg"]
    expected = reason.removeprefix("expected ")
    if kind in EXPECTED:
        expected = EXPECTED[kind].format(**context)
    return [(path, f"got {_shown(found)}; expected {expected}")]


def _section(path: KeyPath) -> type[BaseModel]:
    """The schema's section at a key path."""
    section: type[BaseModel] = ExperimentConfig
    for part in path:
        if isinstance(part, str):  # a number is a place in a list
            section = next(_sections_in(section.model_fields[part].annotation))
    return section


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type is made of, however wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)


def _field(path: KeyPath) -> FieldInfo:
    return _section(path[:-1]).model_fields[str(path[-1])]


def _what_is_missing(path: KeyPath) -> str:
    return _field(path).description or f"takes the keys {', '.join(_section(path).model_fields)}"


def _shown(value: Any) -> str:
    """A value as the user wrote it, or nearly so."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def allowed_values(annotation: Any) -> list[str]:
    """The values a Literal, or a union of Literals, allows."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [str(value) for value in arguments]
    return [value for argument in arguments for value in allowed_values(argument)]

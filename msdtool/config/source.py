"""YAML text to plain values, with the line of every key."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from msdtool.errors import ConfigError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: 1e-3 is a float and 010 is ten; 11:30:00 and 2024-05-17 are text."""

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """Read 10, 010, 0xa and 0o12 as ten; YAML 1.1 takes 010 for eight."""
        text = str(self.construct_scalar(node))
        return int(text, 0 if text[:2] in ("0x", "0o") else 10)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a value; one that is not what its tag (!!int, ...) says is named with its place."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError):
            text = str(node.value)
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"cannot take {text[:40]}{'...' if len(text) > 40 else ''} for a value of the type "
                f"{node.tag.rpartition(':')[2]}",
                node.start_mark,
            ) from None


_INT, _FLOAT, _DATE, _TEXT = (
    f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp", "str")
)
_NUMBERS = {
    _INT: r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+",
    _FLOAT: (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT, _DATE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list("-+.0123456789"))
_Loader.add_constructor(_INT, _Loader.construct_whole_number)


class Source:
    """A parsed YAML file.

    Attributes:
        name: what error messages call it.
        tree: its plain values.
        lines: the line, from 1, of each key path.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            if node is not None:
                self._record(node, ())
            tree = None if node is None else loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
            raise ConfigError(f"{where}: not valid YAML: {_reason(error)}") from None
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(
                f"{name}:{line}: not valid YAML: holds the character "
                f"{chr(error.character)!r}, which text files cannot hold"
            ) from None
        except RecursionError:
            raise ConfigError(
                f"{name}: not valid YAML: nested too deeply, or an alias refers to itself"
            ) from None
        if not isinstance(tree, dict):
            found = {type(None): "nothing", list: "a list"}.get(type(tree), "a single value")
            raise ConfigError(
                f"{name}: expected keys such as task: and data:, found {found}; "
                "'msdtool init' writes a config to start from"
            )
        self.tree: dict[str, Any] = tree

    def _record(self, node: yaml.Node, path: KeyPath) -> None:
        """Note the line of each key below ``node``; a key given twice is an error."""
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode):
                    raise ConfigError(f"{self.name}:{line}: a key must be a word")
                if key_node.tag != "tag:yaml.org,2002:merge":
                    key_node.tag = _TEXT  # keys are names, even those that look like numbers
                key = (*path, key_node.value)
                if key in self.lines:
                    raise ConfigError(
                        f"{self.name}:{line}: {dotted(key)}: given twice, "
                        f"first in line {self.lines[key]}; remove one"
                    )
                self.lines[key] = line
                self._record(value_node, key)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
                self._record(item, (*path, index))

    def where(self, path: KeyPath) -> str:
        """File and line of a key, or of the nearest key above it that is in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}"
        return self.name


def _reason(error: yaml.MarkedYAMLError) -> str:
    """What the parser says, and what it was doing then."""
    text = ", ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in text:
        text += "; indent with spaces, not tabs"
    return text


def read_source(path: Path) -> Source:
    """Read and parse a YAML file.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, or is not YAML with keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; 'msdtool init -o {path}' writes a config to start from"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return Source(text, str(path))


def parse_value(text: str) -> Any:
    """Parse one YAML value, as for ``--set key=value``.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=_Loader)


def dotted(path: KeyPath) -> str:
    """A key path as users write it: data.train.input, network.dilations[2]."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class Origin:
    """Where the keys of a config come from. All origins are equal: they are no part of a config.

    Args:
        describe: (key, message) -> the message with file, line and key.
    """

    def __init__(self, describe: Callable[[KeyPath, str], str] | None = None) -> None:
        self.describe = describe or (lambda path, message: f"{dotted(path)}: {message}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return hash(Origin)

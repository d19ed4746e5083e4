"""YAML text to plain values, with the line of every key."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from msdtool.errors import ConfigError
from msdtool.file_errors import cannot_read
from msdtool.special_files import read_start

KeyPath = tuple[str | int, ...]

MAX_BYTES = 10_000_000
"""Size of the largest config that is read; lists of files can be files of their own."""
MAX_INTEGER = 2**53
"""Largest size of an integer: a float still holds each of them."""
MAX_VALUES = 100_000
"""Largest number of values in a config, each use of an alias counting all that it stands for."""


def _short(text: str) -> str:
    """The beginning of a text; what no terminal shows is escaped."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:40])
    return f"{shown}..." if len(text) > 40 else shown


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: 1e-3 is a float and 010 is ten; 11:30:00 and 2024-05-17 are strings."""

    num_composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a value, unless there are too many: ten megabytes of them would take minutes."""
        self.num_composed += 1
        if self.num_composed > MAX_VALUES:
            raise _TooLargeError(
                f"has more than {MAX_VALUES:,} values, the most that are read; name many images by "
                "a list, as in input: '@images.txt'"
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Read 10, 010, 0xa and 0o12 as ten; YAML 1.1 reads 010 as eight."""
        text = str(self.construct_scalar(node))
        # The text is as long as the file may be, and so would be the time to convert it.
        value = int(text[:40], 0 if text[:2] in ("0x", "0o") else 10)
        if len(text) > 40 or abs(value) > MAX_INTEGER:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"cannot read {_short(text)}: integers have at most the size {MAX_INTEGER:,}",
                node.start_mark,
            )
        return value

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; one that contradicts its tag (!!int, ...) is an error with a line."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str) and b"\0" in value.encode("utf-8", "surrogateescape"):
                raise ValueError  # as does invalid Unicode, which no file name contains
            return value
        except (ValueError, KeyError, AttributeError):
            text = str(node.value)
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"cannot read {_short(text)} as a value of type {node.tag.rpartition(':')[2]}",
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
_Loader.add_constructor(_INT, _Loader.construct_integer)


class _TooLargeError(yaml.YAMLError):
    """There are more values than a config has; few characters can stand for billions."""


def _get_node(loader: _Loader) -> yaml.Node | None:
    """Parse a document.

    Raises:
        _TooLargeError: it has more than `MAX_VALUES` values.
        RecursionError: it is nested too deeply, or an alias refers to itself.
    """
    node: yaml.Node | None = loader.get_single_node()
    if node is not None and (found := _num_values(node, {})) > MAX_VALUES:
        raise _TooLargeError(
            f"has {found:.3g} values, aliases resolved; at most {MAX_VALUES:,} are read"
        )
    return node


def _num_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a document with all aliases resolved; ``known`` are those counted."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        items = node.value
        if isinstance(node, yaml.MappingNode):
            items = [item for pair in items for item in pair]
        known[id(node)] = 1 + sum(_num_values(item, known) for item in items)
    return known[id(node)]


class YamlFile:
    """A parsed YAML file.

    Attributes:
        name: what error messages call it.
        tree: its plain values.
        lines: the line of each key path, counted from 1.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        try:
            loader = _Loader(text)
            node = _get_node(loader)
            if node is not None:
                self._record(node, ())
            tree = None if node is None else loader.construct_document(node)
        except _TooLargeError as error:
            raise ConfigError(f"{name}: {error}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
            raise ConfigError(f"{where}: not valid YAML: {reason(error)}") from None
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(
                f"{name}:{line}: not valid YAML: contains the character "
                f"{chr(error.character)!r}, which text files must not contain"
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
        """Record the line of each key below ``node``; a duplicate key is an error."""
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode):
                    raise ConfigError(f"{self.name}:{line}: a key must be a single word")
                if key_node.tag != "tag:yaml.org,2002:merge":
                    key_node.tag = _TEXT  # keys are names, even those that look like numbers
                key = (*path, key_node.value)
                if key in self.lines:
                    raise ConfigError(
                        f"{self.name}:{line}: {dotted(key)}: given twice, "
                        f"first on line {self.lines[key]}; remove one"
                    )
                self.lines[key] = line
                self._record(value_node, key)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
                self._record(item, (*path, index))

    def where(self, path: KeyPath) -> str:
        """File and line of a key, or of its nearest parent that is in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}"
        return self.name


def reason(error: yaml.MarkedYAMLError) -> str:
    """What the parser reports, and what it was parsing."""
    text = ", ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in text:
        text += "; indent with spaces, not tabs"
    return text


def read_yaml(path: Path) -> YamlFile:
    """Read and parse a YAML file.

    Raises:
        ConfigError: it cannot be read, is larger than `MAX_BYTES`, is not UTF-8, or is not a YAML
            mapping.
    """
    advice = "'msdtool init' writes a config to start from"
    with cannot_read(path, ConfigError, advice=advice):
        content = read_start(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path}: exceeds the limit of {MAX_BYTES // 10**6} MB; name many images by a list, "
            " as in input: '@images.txt'"
        )
    try:
        return YamlFile(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None


def parse_value(text: str) -> Any:
    """Parse one YAML value, such as that of an override ``key=value``.

    Raises:
        yaml.YAMLError: the string is not YAML, or has too many values.
    """
    loader = _Loader(text)
    try:
        node = _get_node(loader)
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply, or an alias refers to itself") from None


def dotted(path: KeyPath) -> str:
    """A key path the way users write it: data.train.input, network.dilations[2]."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class Origin:
    """Where the keys of a config come from. All origins are equal: they are not part of a config.

    Args:
        describe: maps a key and a message to the message with file, line and key.
    """

    def __init__(self, describe: Callable[[KeyPath, str], str] | None = None) -> None:
        self.describe = describe or (lambda path, message: f"{dotted(path)}: {message}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return hash(Origin)

"""Plain data, as YAML and checkpoints hold them, checked against declared types."""

import reprlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")

LARGEST = 2**63 - 1
"""The largest integer, of either sign: what tensors, files and other programs count with."""
MAX_LABEL_VALUE = 2**31 - 1
"""The largest value of a label, of either sign."""
MAX_VALUES = 200_000
"""Largest number of values that are looked at; a few shared lists can stand for billions."""
MAX_LEVELS = 100

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that an argument or field is declared to have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, item) for item in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (tuple, list, Sequence, Iterable):
        inner = [item for item in arguments if item is not Ellipsis] or [Any]
        return isinstance(value, list) and all(any(fits(v, i) for i in inner) for v in value)
    if origin in (dict, Mapping):
        key, inner_value = arguments or (Any, Any)
        return isinstance(value, dict) and all(
            fits(k, key) and fits(v, inner_value) for k, v in value.items()
        )
    if hint is None or hint is types.NoneType:
        return value is None
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if isinstance(value, int) and abs(value) > LARGEST:
        return False
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(hint, type) and isinstance(value, hint)


def type_text(hint: Any) -> str:
    """Return a type as people read it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        texts = dict.fromkeys(type_text(item) for item in arguments)
        return " or ".join(text for text in texts if text)
    if origin is Literal:
        return ", ".join(map(repr, arguments))
    if origin in (tuple, list, Sequence, Iterable):
        return "a list"
    if origin in (dict, Mapping):
        return "keys and values"
    names = {
        bool: "true or false",
        float: "a number",
        int: "an integer",
        str: "a string",
        type(None): "null",
    }
    return names.get(hint, "")


def shown(value: Any) -> str:
    """Return a value for a message: shortened, and fast even for huge values."""
    return f"{_repr.repr(value):.60}"


def check_plain(value: Any, name: str) -> None:
    """Check that a value is made of keys and values, lists, strings, numbers, booleans and null.

    Args:
        value: the value.
        name: where it is, for error messages.

    Raises:
        ValueError: it is not, or has more than `MAX_VALUES` values or `MAX_LEVELS` levels.
    """
    waiting, count = [(value, name, 0)], 0
    while waiting:
        item, place, level = waiting.pop()
        count += 1
        if count > MAX_VALUES or level > MAX_LEVELS:
            raise ValueError(
                f"{name} has more than {MAX_VALUES:,} values or {MAX_LEVELS} levels, more "
                "than any valid checkpoint"
            )
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise ValueError(f"{place} has the keys {shown(list(item))}; expected strings")
            waiting += [(inner, f"{place}.{key:.60}", level + 1) for key, inner in item.items()]
        elif isinstance(item, (list, tuple)):
            waiting += [(inner, place, level + 1) for inner in item]
        elif not fits(item, bool | int | float | str | None):
            raise ValueError(
                f"{place} has {shown(item)}; expected strings, numbers, true, false or null"
            )


def read(kind: type[T], content: Any, name: str) -> T:
    """Make a dataclass of keys and values; keys that it does not have are ignored.

    A field that is a dataclass itself is read by its ``from_dict``, if it has one; lists become
    tuples where a field is a tuple.

    Args:
        kind: the dataclass.
        content: keys and values.
        name: where they are, for error messages; "" at the top.

    Raises:
        ValueError: a key is missing or its value has another type; names the key.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{name} is {shown(content)}; expected keys and values")
    hints = typing.get_type_hints(kind)
    declared = fields(kind)  # type: ignore[arg-type]
    required = [f.name for f in declared if f.default is MISSING and f.default_factory is MISSING]
    missing = [f"{name}.{key}".lstrip(".") for key in required if key not in content]
    if missing:
        raise ValueError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    known = {key: value for key, value in content.items() if key in hints}
    return kind(**{k: _field(v, hints[k], f"{name}.{k}".lstrip(".")) for k, v in known.items()})


def _field(value: Any, hint: Any, name: str) -> Any:
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return (
            hint.from_dict(value, name) if hasattr(hint, "from_dict") else read(hint, value, name)
        )
    if not fits(value, hint):
        if isinstance(value, dict) and get_origin(hint) is dict:
            for key, inner in value.items():
                _field(key, get_args(hint)[0], f"a key of {name}")
                _field(inner, get_args(hint)[1], f"{name}.{key:.60}")
        expected = type_text(hint) or f"a {getattr(hint, '__name__', hint)}"
        raise ValueError(f"{name} is {shown(value)}; expected {expected}")
    return tuple(value) if get_origin(hint) is tuple else value

"""Plain data, as YAML and checkpoints hold them, checked against declared types."""

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")


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
        raise ValueError(f"{name} is {content!r:.60}; expected keys and values")
    hints = typing.get_type_hints(kind)
    required = [f.name for f in fields(kind) if f.default is MISSING]  # type: ignore[arg-type]
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
        expected = type_text(hint) or f"a {getattr(hint, '__name__', hint)}"
        raise ValueError(f"{name} is {value!r:.60}; expected {expected}")
    return tuple(value) if get_origin(hint) is tuple else value

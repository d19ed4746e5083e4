"""What a layer's constructor takes, checked against what a config gives."""

import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from msdtool.config.wording import nearest
from msdtool.nn.registry import UNAVAILABLE, Kind

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(kind: Kind) -> dict[str, inspect.Parameter]:
    """The arguments a layer takes by name, those that it passes on included."""
    own = {
        name: parameter
        for name, parameter in inspect.signature(kind.make).parameters.items()
        if parameter.kind not in VARIABLE and name not in UNAVAILABLE
    }
    if kind.passes_to is None:
        return own
    # What the other one cannot do without, this one gives it.
    others = parameters(kind.passes_to).items()
    return own | {k: p for k, p in others if k not in own and p.default is not p.empty}


def signature(name: str, kind: Kind) -> str:
    """A layer's arguments as people read them: ConvLayer(ni, nf, ks=3, ...)."""
    shown = []
    for key, parameter in parameters(kind).items():
        default = parameter.default
        shown.append(key if default is parameter.empty else f"{key}={_shown(default)}")
    return f"{name}({', '.join(shown)})"


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(getattr(value, "__name__", value))


def hints(kind: Kind) -> dict[str, Any]:
    """The types of a layer's arguments."""
    passed = {} if kind.passes_to is None else hints(kind.passes_to)
    make = inspect.unwrap(kind.make)
    # A class' own annotations are those of its attributes.
    function = make.__init__ if isinstance(make, type) else make  # type: ignore[misc]
    return {**passed, **typing.get_type_hints(function)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from a config is of the type that an argument is declared to have."""
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
        return isinstance(value, dict)
    if hint is None or hint is types.NoneType:
        return value is None
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(hint, type) and isinstance(value, hint)


def type_text(hint: Any) -> str:
    """A type as people read it."""
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
        int: "a whole number",
        str: "a text",
        type(None): "null",
    }
    return names.get(hint, "")


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """The end of a sentence about a wrong name: the allowed one that may have been meant."""
    name = nearest(found, allowed)
    return f"; did you mean {name!r}?" if name else "."

"""The arguments of a layer's constructor, checked against those in a config."""

import inspect
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any

from msdtool.nn.yaml_layers.registry import UNAVAILABLE, Kind
from msdtool.wording import nearest

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(kind: Kind) -> dict[str, inspect.Parameter]:
    """Return the arguments that a layer takes by name, including those that it passes on."""
    own = {
        name: parameter
        for name, parameter in inspect.signature(kind.make).parameters.items()
        if parameter.kind not in VARIABLE and name not in UNAVAILABLE
    }
    if kind.passes_to is None:
        return own
    # The layer itself provides the required arguments of the one it passes to.
    others = parameters(kind.passes_to).items()
    return own | {k: p for k, p in others if k not in own and p.default is not p.empty}


def signature(name: str, kind: Kind) -> str:
    """Return a layer's arguments in readable form: ConvLayer(ni, nf, ks=3, ...)."""
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
    """Return the types of a layer's arguments."""
    passed = {} if kind.passes_to is None else hints(kind.passes_to)
    make = inspect.unwrap(kind.make)
    # The annotations of a class itself are those of its attributes.
    function = make.__init__ if isinstance(make, type) else make  # type: ignore[misc]
    return {**passed, **typing.get_type_hints(function)}


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """Return the end of a sentence about a wrong name: the allowed name that may be meant."""
    name = nearest(found, allowed)
    return f"; did you mean {name!r}?" if name else "."

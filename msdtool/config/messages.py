"""What is wrong with a config, in a user's words instead of pydantic's."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from msdtool.config.experiment import ExperimentConfig
from msdtool.config.renamed import new_path
from msdtool.config.yaml_file import KeyPath, dotted
from msdtool.wording import choices

Problem = tuple[KeyPath, str]
"""The key path that a message is about, and the message."""

# What pydantic's error types mean to a user.
EXPECTED = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number not less than {ge:g}",
    "int_type": "an integer",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number not greater than {le:g}",
    "list_type": "a list, such as [1, 2, 3]",
    "string_too_short": "a non-empty string",
    "string_type": "a string",
    "too_short": "a non-empty list",
}


def problems(details: Sequence[ErrorDetails]) -> list[Problem]:
    """Say pydantic's errors in a user's words, each with the key path that it belongs to."""
    # A key that is given by its former name is not missing, too.
    renamed = {new_path(_key_path(detail)) for detail in details}
    return [
        problem
        for detail in details
        if detail["type"] != "missing" or _key_path(detail) not in renamed
        for problem in _problems(detail)
    ]


def _key_path(detail: ErrorDetails) -> KeyPath:
    """Where an error is; parts in angle brackets are names of the schema's own."""
    return tuple(part for part in detail["loc"] if not str(part).startswith("<"))


def _problems(detail: ErrorDetails) -> list[Problem]:
    path = _key_path(detail)
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "keys_disagree":
        return [(tuple(key.split(".")), message) for key, message in context["problems"]]
    if kind == "extra_forbidden":
        return [(path, _unknown(path))]
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


def _unknown(path: KeyPath) -> str:
    today = new_path(path)
    if today is not None:
        return f"renamed to {dotted(today)}; use the new name"
    return f"unknown key{choices(str(path[-1]), list(_section(path[:-1]).model_fields))}"


def _section(path: KeyPath) -> type[BaseModel]:
    """The schema's section at a key path."""
    section: type[BaseModel] = ExperimentConfig
    for part in path:
        if isinstance(part, str):  # a number is a position in a list
            section = next(_sections_in(section.model_fields[part].annotation))
    return section


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a type consists of, however wrapped."""
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
    """The values that a Literal, or a union of Literals, allows."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [str(value) for value in arguments]
    return [value for argument in arguments for value in allowed_values(argument)]

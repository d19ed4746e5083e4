"""The table of config keys in the documentation, generated from the schema."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from msdtool.config.experiment import ExperimentConfig
from msdtool.config.messages import allowed_values

START, END = "<!-- keys: start -->", "<!-- keys: end -->"


def markdown_table() -> str:
    """Return a table of every key with its default and meaning."""
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{key}` | {default} | {text} |" for key, default, text in _rows(ExperimentConfig)]
    return "\n".join(lines)


def update(text: str) -> str:
    """Return ``text`` with the table between its two markers replaced."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{markdown_table()}\n{END}{after}"


def _rows(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        nested = _section_of(field)
        if nested is not None:
            if field.description:
                yield f"{prefix}{name}", _default(field), field.description
            yield from _rows(nested, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _default(field), _meaning(field)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "`{}`" if field.default_factory else "required"
    if field.default is None:
        return "null"
    return f"`{field.default}`".replace("True", "true").replace("False", "false")


def _meaning(field: FieldInfo) -> str:
    text = field.description or ""
    allowed = allowed_values(field.annotation)
    if allowed:
        text = f"{', '.join(f'`{value}`' for value in allowed)}: {text}"
    return text.replace("|", "\\|")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(update(path.read_text(encoding="utf-8")), encoding="utf-8")

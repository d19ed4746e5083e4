"""The base of all sections of the schema."""

from pydantic import BaseModel, ConfigDict

Problem = tuple[str, str]
"""A key and what is wrong with it."""


class Section(BaseModel):
    """A frozen mapping of known keys; values are not converted from other types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

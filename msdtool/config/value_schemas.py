"""JSON schemas of the values that `msdtool.config.values` parses, for editors.

Each accepts all that its parser accepts, and of the rest as little as a schema can tell. Draft 7,
which editors know best.
"""

from typing import Any

from msdtool.config.values import DTYPE, FROZEN_PARTS, MAX_LABELS, MAX_MASK
from msdtool.plain_data import MAX_LABEL_VALUE

Schema = dict[str, Any]


def _list(items: Schema, least: int = 1, most: int | None = None) -> Schema:
    ends = {"minItems": least} if most is None else {"minItems": least, "maxItems": most}
    return {"type": "array", "items": items, **ends}


def _any(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _entry(value: Schema) -> Schema:
    """A mapping with one key."""
    size = {"minProperties": 1, "maxProperties": 1}
    return {"type": "object", "additionalProperties": value, **size}


TEXT = {"type": "string", "minLength": 1}
PATHS = _any(TEXT, _list(TEXT))
DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
AXES = {"type": "string", "pattern": "^(?=.*[xX])(?=.*[yY])(?!.*(.).*\\1)[xXyYzZcCtT]+$"}
DTYPE_NAME = {"type": "string", "pattern": f"^({DTYPE})$"}
DURATION = _any(
    {"type": "number", "exclusiveMinimum": 0},
    {"type": "string", "pattern": r"^(\d+(\.\d+)?\s*[smhd]|(\d+-)?\d+:\d\d:\d\d)$"},
)
_LAYER_COUNT = {
    "type": "object",
    "required": ["block"],
    "additionalProperties": False,
    "properties": {"block": {"type": "integer", "minimum": 1}},
}
FREEZE = {"type": "array", "items": _any({"enum": list(FROZEN_PARTS)}, _LAYER_COUNT)}
BLIND_MASK = {
    "type": "object",
    "propertyNames": {"enum": ["Z", "Y", "X"]},
    "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MAX_MASK},
}
LABEL = {"type": "integer", "minimum": -MAX_LABEL_VALUE, "maximum": MAX_LABEL_VALUE}
LABELS = _any(
    {"type": "integer", "minimum": 2, "maximum": MAX_LABELS},
    {**_list(LABEL, 2, MAX_LABELS), "uniqueItems": True},
)
_SIZE = {"type": "integer", "minimum": 1}
CROP = _any(_SIZE, _list(_SIZE, 1, 3))
AUGMENT = {"enum": [True, False, "in_plane"]}
RANGE = _list({"type": "number"}, 2, 2)
FACTORS = _list({"type": "number", "exclusiveMinimum": 0}, 2, 2)
STRENGTHS = _list({"type": "number", "minimum": 0}, 2, 2)
FRACTIONS = _list({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, 2, 2)
ANGLES = _list({"type": "number", "minimum": -180, "maximum": 180}, 2, 2)
_SLICES = _list({"type": "integer", "minimum": 0}, 2, 2)
SLICES = _any(_SLICES, _list(_SLICES))
CLASS_WEIGHTS = _any(
    {"enum": ["balanced"]},
    {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}},
)
LOSS_TERMS = _list(_any(TEXT, _entry({"type": "number", "exclusiveMinimum": 0})))
LAYER = _any(TEXT, _entry({"type": ["object", "null"]}))
LAYERS = {"type": "array", "items": LAYER}


def given(*keys: str) -> Schema:
    """Of a mapping: these keys are there, and not null."""
    return {"required": list(keys), "properties": {key: {"not": {"type": "null"}} for key in keys}}


def absent(*keys: str) -> Schema:
    """Of a mapping: these keys are missing, or null."""
    return {"properties": {key: {"type": "null"} for key in keys}}


def either(*alternatives: list[Schema]) -> Schema:
    """Of a mapping: all schemas of at least one list hold; for pydantic's `json_schema_extra`."""
    return {"anyOf": [{"allOf": schemas} for schemas in alternatives]}

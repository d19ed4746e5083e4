"""JSON that every program reads: it has no NaN and no infinity, so null stands for them."""

import json
import math
from typing import Any


def dumps(value: Any) -> str:
    """Return plain data as one line of JSON; keys become text."""
    return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

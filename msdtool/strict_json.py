"""JSON that every parser accepts: null stands for NaN and infinity, which it cannot express."""

import json
import math
import re
from typing import Any

CONTROL = re.compile("[\x7f-\x9f]")
"""What terminals obey and JSON does not escape by itself."""


def dumps(value: Any, encoding: str = "utf-8") -> str:
    """Return plain data as one line of JSON; keys become strings.

    Args:
        value: the data.
        encoding: of the file that the line is for. Text that cannot be encoded, such as the name of
            a file whose bytes are not UTF-8, is escaped, so that parsers restore it.
    """
    value = _finite(value)
    text = CONTROL.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""What error messages say about names that are not among the allowed ones."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def nearest(found: Any, allowed: Iterable[str]) -> str | None:
    """The allowed name that may have been meant; None if none is near."""
    by_lower = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(str(found).lower(), list(by_lower), n=1)
    return by_lower[close[0]] if close else None


def choices(found: Any, allowed: Sequence[str]) -> str:
    """The end of a message: what is allowed, and which of it may have been meant."""
    if found in allowed:
        # Quoted: '2' is text.
        return f"; allowed: {', '.join(allowed)}, without quotes"
    name = nearest(found, allowed)
    meant = "; allowed" if name is None else f"; did you mean {name!r}? Allowed"
    return f"{meant}: {', '.join(allowed)}"

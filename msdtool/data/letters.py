"""The letters by which axes are known: X, Y, Z, C for channels, T for time."""

from collections.abc import Iterable

UNNAMED = "?"
"""Stands for an axis that a file does not name."""
NAMES = {"channel": "C", "time": "T"} | {letter: letter.upper() for letter in "xyzct"}


def letters(names: Iterable[str | None], count: int) -> str:
    """Dimension names as one letter each; all `UNNAMED` if their number is wrong."""
    known = [NAMES.get(str(name).lower(), UNNAMED) for name in names]
    return "".join(known) if len(known) == count else UNNAMED * count

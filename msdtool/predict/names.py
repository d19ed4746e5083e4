"""What results are called, where the name of one file does not say it."""

import re
from collections.abc import Sequence
from itertools import takewhile

from msdtool.data.containers.registry import stem_of
from msdtool.data.readers import count_arrays
from msdtool.data.specifiers import Location

SEPARATORS = "_-. "
PARTS = re.compile(rf"[{re.escape(SEPARATORS)}]+|[^{re.escape(SEPARATORS)}]+")


def name_of(location: Location) -> str:
    """Return the name of a result, without a suffix: that of its input.

    Of a file that holds several arrays, those that are selected are told apart by theirs. Which
    others a command is given does not matter: a part of its inputs has the same results.
    """
    stem = stem_of(location.path)
    if location.inner and count_arrays(location) > 1:
        return "_".join([stem, *filter(None, location.inner.split("/"))])
    return stem


def common_name(names: Sequence[str]) -> str:
    """Return a name for what is made of several files, such as the splits of a scan.

    It consists of the parts between separators that all names share, rec_0001 for rec_even_0001 and
    rec_odd_0001; else of the letters that all begin with; else it is the first name.
    """
    found = [PARTS.findall(name) for name in names]
    if len({len(parts) for parts in found}) == 1:
        shared = [parts[0] for parts in zip(*found, strict=True) if len(set(parts)) == 1]
        words = [part for part in shared if part[0] not in SEPARATORS]
        if words:
            return _joined(shared)
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike).rstrip(SEPARATORS) or names[0]


def _joined(parts: Sequence[str]) -> str:
    """Parts as they were, with one separator where those around a part that was left out meet."""
    kept: list[str] = []
    for part in parts:
        is_separator = part[0] in SEPARATORS
        if not (is_separator and (not kept or kept[-1][0] in SEPARATORS)):
            kept.append(part)
    return "".join(kept).rstrip(SEPARATORS)

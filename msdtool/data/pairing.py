"""Whether the names of paired files agree."""

import re
from pathlib import Path

from msdtool.data.interfaces import Pairs


def disagreeing_pairs(pairs: Pairs) -> list[tuple[Path, Path]]:
    """Return the files of a pair whose names end in different numbers: scan_003 and slice_004.

    Pairing goes by order, so a missing file shifts all pairs after it; this shows it. Every stack
    is compared with the first one, unless each is a single file.
    """
    first, *others = (stack.paths for stack in pairs.stacks().values())
    files = dict.fromkeys((a, b) for other in others for a, b in zip(first, other, strict=True))
    if len(files) == len(others):
        return []
    return [(input, other) for input, other in files if _numbers_differ(input, other)]


def _numbers_differ(first: Path, second: Path) -> bool:
    numbers = _last_number(first), _last_number(second)
    return first.stem != second.stem and None not in numbers and numbers[0] != numbers[1]


def _last_number(path: Path) -> int | None:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None

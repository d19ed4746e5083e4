"""Whether the names of paired files agree: noisy_007.tif and clean_7.tif, not scan_3 and scan_4.

Images are paired in order, so a missing file shifts all following pairs; their names reveal it.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TOKEN = re.compile(r"\d+|[^\W\d_]+")
Key = tuple[str, ...]
"""The words and numbers that distinguish a file from the others of its stack."""


def disagreeing_pairs(stacks: Iterable[Sequence[Path]]) -> list[tuple[Path, Path]]:
    """Return the pairs of files whose names disagree.

    Names agree if one has all the words and numbers, in order, that distinguish the other from the
    files of its own stack. Every stack is compared with the first one; the name of a stack's only
    file says nothing.

    Args:
        stacks: the file of each image, in the order in which images are paired.
    """
    first, *others = stacks
    keys = distinguishing(first)
    found: dict[tuple[Path, Path], None] = {}
    for other in others:
        other_keys = distinguishing(other)
        for pair in dict.fromkeys(zip(first, other, strict=True)):
            one, two = keys[pair[0]], other_keys[pair[1]]
            if not (_holds(one, two) or _holds(two, one)):
                found[pair] = None
    return list(found)


def _holds(key: Key, part: Key) -> bool:
    """Whether all of ``part`` are in ``key``, in this order."""
    rest = iter(key)
    return all(token in rest for token in part)


def unpaired(first: Sequence[Path], other: Sequence[Path]) -> list[Path]:
    """Return the files of the longer stack whose names no file of the other has.

    None if the names do not tell: a file of the shorter one has no partner either.
    """
    longer, shorter = sorted((distinguishing(first), distinguishing(other)), key=len, reverse=True)
    partners = set(shorter.values())
    if len(partners) < len(shorter) or not partners <= set(longer.values()):
        return []
    return [path for path, key in longer.items() if key not in partners]


def distinguishing(paths: Sequence[Path]) -> dict[Path, Key]:
    """Return what distinguishes the name of each file from those of the others."""
    files = list(dict.fromkeys(paths))
    absolute = [path.with_suffix("").absolute() for path in files]
    folder = os.path.commonpath([path.parent for path in absolute])
    names = [_CAMEL.sub(" ", os.path.relpath(path, folder)) for path in absolute]
    tokens = [_TOKEN.findall(name) for name in names]
    words = [[token.casefold() for token in found if not token.isdecimal()] for found in tokens]
    numbers = [[str(int(token)) for token in found if token.isdecimal()] for found in tokens]
    common = set(words[0]).intersection(*words)
    constant: set[int] = set()
    if len({len(found) for found in numbers}) == 1:
        columns = enumerate(zip(*numbers, strict=True))
        constant = {place for place, column in columns if len(set(column)) == 1}
    return {
        file: (
            *(word for word in its_words if word not in common),
            *(number for place, number in enumerate(its_numbers) if place not in constant),
        )
        for file, its_words, its_numbers in zip(files, words, numbers, strict=True)
    }

"""Whether the names of paired files agree: noisy_007.tif and clean_7.tif, not scan_3 and scan_4.

Images are paired in order, so a missing file shifts all following pairs; their names reveal it.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msdtool.data.containers.registry import stem_of

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
    found: dict[tuple[Path, Path], None] = {}
    for other in others:
        places = _alike(first, other)
        keys, other_keys = (distinguishing(stack, places) for stack in (first, other))
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


def distinguishing(paths: Sequence[Path], also: Collection[int] = ()) -> dict[Path, Key]:
    """Return what distinguishes the name of each file from those of the others.

    Args:
        paths: the files.
        also: places of numbers, from 0, that count although they may all be the same.
    """
    tokens = _tokens(paths)
    words = {
        file: [token.casefold() for token in found if not token.isdecimal()]
        for file, found in tokens.items()
    }
    common = set.intersection(*map(set, words.values()))
    constant = {
        place for place, column in enumerate(_columns(tokens)) if len(column) == 1
    }.difference(also)
    return {
        file: (
            *(word for word in words[file] if word not in common),
            *(number for place, number in enumerate(_numbers(found)) if place not in constant),
        )
        for file, found in tokens.items()
    }


def _alike(first: Sequence[Path], other: Sequence[Path]) -> list[int]:
    """The places of numbers that mean the same in two stacks, though one has but one value there.

    All of scan1_tile0, scan2_tile0 are of tile 0, and so must be what scan2 is paired with. Where
    the other stack never has that value, it is the number of something else, such as a dose.
    """
    tokens = _tokens(first), _tokens(other)
    one, two = map(_columns, tokens)
    if len(one) != len(two) or min(map(len, tokens)) == 1:
        return []
    return [place for place, values in enumerate(zip(one, two, strict=True)) if _overlap(*values)]


def _overlap(one: set[str], other: set[str]) -> bool:
    return len(one | other) > 1 and bool(one & other)


def _tokens(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """The words and numbers in the name of each file, and of the folders that they do not share."""
    files = list(dict.fromkeys(paths))
    absolute = [path.with_name(stem_of(path)).absolute() for path in files]
    folder = os.path.commonpath([path.parent for path in absolute])
    names = [_CAMEL.sub(" ", os.path.relpath(path, folder)) for path in absolute]
    return {file: _TOKEN.findall(name) for file, name in zip(files, names, strict=True)}


def _numbers(tokens: Sequence[str]) -> list[str]:
    return [str(int(token)) for token in tokens if token.isdecimal()]


def _columns(tokens: Mapping[Path, list[str]]) -> list[set[str]]:
    """The numbers at each place; none if the names have not equally many."""
    numbers = list(map(_numbers, tokens.values()))
    if len(set(map(len, numbers))) > 1:
        return []
    return [set(column) for column in zip(*numbers, strict=True)]

"""The slices around a slice that is a file of its own: found in its folder, by number.

Which files a command is given does not change what lies around them: slices that are computed one
by one, or those of a series that an earlier try left out, get the neighbours that they have in the
whole series.
"""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from natsort import natsorted

from msdtool.data.containers.registry import stem_of
from msdtool.errors import InputError
from msdtool.file_errors import cannot_read
from msdtool.specifier_grammar import Location

log = logging.getLogger(__name__)

NUMBER = re.compile(r"\d+")
LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


def find_series(slices: Iterable[Location]) -> dict[Location, list[Location]]:
    """Return the series that each slice belongs to, in order, read from its folder.

    A series are the files whose names are those of the slice but for the last number; in names
    without one, or where no other file differs by the last number alone, those that differ by any
    of the numbers; and at least those with the same suffix that have no number either. Where a
    number is missing in a series, a warning says so.

    Raises:
        InputError: a folder cannot be read.
    """
    folders: dict[Path, _Folder] = {}
    series: dict[tuple[Location, str], list[Location]] = {}
    found: dict[Location, list[Location]] = {}
    for slice_ in slices:
        folder = slice_.path.parent
        if folder not in folders:
            folders[folder] = _Folder(folder)
        names = folders[folder].series(slice_.path.name)
        key = replace(slice_, path=folder), names[0]
        if key not in series:
            series[key] = [replace(slice_, path=folder / name) for name in names]
            _warn_of_gaps(series[key])
        found[slice_] = series[key]
    return found


class _Folder:
    """The names in a folder, by what they have in common.

    Raises:
        InputError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with cannot_read(path, InputError), os.scandir(path) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        self._groups: dict[tuple[str, ...], list[str]] = {}
        for name in natsorted(names):
            for key in (_but_for_the_last_number(name), _but_for_numbers(name)):
                self._groups.setdefault(key, []).append(name)

    def series(self, name: str) -> list[str]:
        """The names of the series of ``name``, in natural order."""
        numbered = self._groups.get(_but_for_the_last_number(name), [])
        alike = self._groups.get(_but_for_numbers(name), [])
        found = numbered if len(numbered) > 1 else alike
        return found if name in found else [name]  # what is not there is reported when it is read


def _but_for_the_last_number(name: str) -> tuple[str, ...]:
    stem = stem_of(Path(name))
    match = LAST_NUMBER.fullmatch(stem)
    return (name,) if match is None else (match[1], match[3], name.removeprefix(stem), "last")


def _but_for_numbers(name: str) -> tuple[str, ...]:
    stem = stem_of(Path(name))
    suffix = name.removeprefix(stem)
    return ("", suffix) if NUMBER.search(stem) is None else (NUMBER.sub("#", stem), suffix)


def _warn_of_gaps(series: Sequence[Location]) -> None:
    """Name the first place where a number is missing."""
    names = [location.path.name for location in series]
    if len({_but_for_the_last_number(name) for name in names}) != 1:
        if len(names) > 1 and not any(NUMBER.search(stem_of(Path(name))) for name in names):
            log.warning(
                f"{series[0].path}: the names of {len(names)} slices have no numbers; slabs are "
                "made of them in alphabetical order. Number them, or use a volume"
            )
        return  # not numbered by one number
    if NUMBER.search(stem_of(series[0].path)) is None:
        return  # a single one
    numbers = [int(NUMBER.findall(stem_of(location.path))[-1]) for location in series]
    steps = [after - before for before, after in pairwise(numbers)]
    usual = min((step for step in steps if step > 0), default=0)
    gaps = [place for place, step in enumerate(steps) if step > usual]
    if gaps:
        before, after = series[gaps[0]].path, series[gaps[0] + 1].path
        first, last = numbers[gaps[0]] + usual, numbers[gaps[0] + 1] - usual
        missing = f"number {first} is" if first == last else f"numbers {first} to {last} are"
        others = f" (the first of {len(gaps)} gaps)" if len(gaps) > 1 else ""
        log.warning(
            f"{before}: the next slice is {after.name}: {missing} missing{others}. "
            "Slabs there consist of slices that were not adjacent; complete the folder, or keep "
            "the parts in folders of their own"
        )

"""The slices around a slice that is a file of its own: found in its folder, by number.

Which files a command is given does not change what lies around them: slices that are computed one
by one, or those of a series that an earlier try left out, get the neighbours that they have in the
whole series.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from msdtool.data.containers.registry import stem_of
from msdtool.data.numbering import COUNT, Series, find_numbering
from msdtool.errors import InputError
from msdtool.file_errors import cannot_read
from msdtool.specifier_grammar import Location

log = logging.getLogger(__name__)


def find_series(slices: Iterable[Location]) -> dict[Location, list[Location]]:
    """Return the series that each slice belongs to, in order, read from its folder.

    What numbers the slices is told from all names in a folder, see `msdtool.data.numbering`. Where
    a number is missing in a series, or names can be understood in several ways, a warning says so.

    Raises:
        InputError: a folder cannot be read.
    """
    folders: dict[Path, dict[str, Series]] = {}
    series: dict[tuple[Location, str], list[Location]] = {}
    found: dict[Location, list[Location]] = {}
    told: set[tuple[Path, str]] = set()
    for slice_ in slices:
        folder = slice_.path.parent
        if folder not in folders:
            folders[folder] = find_numbering(_names(folder))
        name = slice_.path.name
        # What is not there is reported when it is read.
        names = folders[folder].get(name, Series([name]))
        key = replace(slice_, path=folder), names.names[0]
        if key not in series:
            series[key] = [replace(slice_, path=folder / name) for name in names.names]
            _warn(folder, names, folders[folder], told)
        found[slice_] = series[key]
    return found


def _names(folder: Path) -> list[str]:
    with cannot_read(folder, InputError), os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".")]


def _warn(
    folder: Path, series: Series, others: Mapping[str, Series], told: set[tuple[Path, str]]
) -> None:
    """Say what is doubtful about a series, and where slabs have no neighbours.

    The same doubt about several series in a folder is told once.
    """
    first = folder / series.names[0]
    if series.doubt:
        if (folder, series.doubt) not in told:
            log.warning(f"{first}: {series.doubt}")
        told.add((folder, series.doubt))
    elif not series.numbers and len(series.names) > 1:
        log.warning(
            f"{first}: the names of {len(series.names)} slices have no numbers; slabs are made of "
            "them in alphabetical order. Number them, or use a volume"
        )
    gap = _gap(folder, series, others)
    if gap:
        log.warning(
            f"{gap}. Slabs there consist of slices that were not adjacent; complete the folder, or "
            "keep the parts in folders of their own"
        )


def warn_of_gaps(slices: Sequence[Location]) -> None:
    """Say where a number is missing among files that become slices of one volume."""
    by_folder: dict[Path, list[str]] = {}
    for slice_ in slices:
        by_folder.setdefault(slice_.path.parent, []).append(slice_.path.name)
    for folder, names in by_folder.items():
        found = find_numbering(names)
        for series in {series.names[0]: series for series in found.values()}.values():
            gap = _gap(folder, series, found)
            if gap:
                log.warning(f"{gap}. In the volume, these slices are adjacent")


def _gap(folder: Path, series: Series, others: Mapping[str, Series]) -> str:
    """Name the first place where a number is missing in a series; empty if none is."""
    numbers = series.numbers
    steps = [after - before for before, after in pairwise(numbers)]
    usual = min((step for step in steps if step > 0), default=0)
    gaps = [place for place, step in enumerate(steps) if step > 1.5 * usual]
    if not gaps:
        return ""
    place = gaps[0]
    low, high = numbers[place] + usual, numbers[place + 1] - usual
    is_one = high - low < usual / 2
    missing = f"number {low:g} is" if is_one else f"numbers {low:g} to {high:g} are"
    first_of = f" (the first of {len(gaps)} gaps)" if len(gaps) > 1 else ""
    replacement = _with_number(low, others) if is_one else None
    perhaps = f"; if it is {replacement}, rename that" if replacement else ""
    return (
        f"{folder / series.names[place]}: the next slice is {series.names[place + 1]}: {missing} "
        f"missing{first_of}{perhaps}"
    )


def _with_number(number: float, others: Mapping[str, Series]) -> str | None:
    """A name with this number that is in no series, such as slice_005_fixed.tif."""
    for name, series in others.items():
        if len(series.names) == 1 and number in map(float, COUNT.findall(stem_of(Path(name)))):
            return name
    return None

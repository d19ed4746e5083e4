"""How the slices in a folder are numbered, told from all of their names.

Names that differ in numbers alone belong together, as `scan1_1.tif`, `scan1_2.tif`. If only one of
the numbers differs, it numbers the slices, wherever it stands. If several do, it is the one behind
a z or the word "slice" if no other has more values, else the last one, and what the others say are
series of their own; unless each slice would be one, as with times: then it is a number that no two
names share. Positions are numbers, too, if they are evenly spaced: `0`, `0.5`, `1`, and `z-1`,
`z0`, where a minus only counts if some names have none. What looks like several of these gets a
doubt, for a warning.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted

from msdtool.data.containers.registry import stem_of

COUNT = re.compile(r"\d+")
POSITION = re.compile(r"(?:(?<!\d)[-+])?\d+(?:\.\d+)?")
OF_SLICES = re.compile(r"(?:^|[^a-z])(?:z|sl|slice)[^a-z]?$", re.IGNORECASE)
"""What stands before a number that is one of slices whatever follows it."""
SAME_SUFFIX = {".tiff": ".tif", ".jpeg": ".jpg"}


class Series(NamedTuple):
    """Slices that lie above each other.

    Attributes:
        names: in order.
        numbers: of the slices; none if the names have no number, or nothing to compare it with.
        doubt: how else the names can be understood, and what to do; "" if they cannot.
    """

    names: list[str]
    numbers: Sequence[float] = ()
    doubt: str = ""


class _Form(NamedTuple):
    """Names that differ in numbers alone: the texts before the numbers, and rows of numbers."""

    texts: Sequence[str]
    rows: dict[str, tuple[float, ...]]

    def column(self, place: int) -> list[float]:
        """The numbers at one place."""
        return [row[place] for row in self.rows.values()]


def find_numbering(names: Iterable[str]) -> dict[str, Series]:
    """Return the series that each name of a folder belongs to."""
    found = [s for alike in _by_form(natsorted(names), POSITION) for s in _read(alike)]
    doubt = _doubt(found)
    return {
        name: series if series.doubt else series._replace(doubt=doubt)
        for series in found
        for name in series.names
    }


def _doubt(found: Sequence[Series]) -> str:
    """What is doubtful about the series of a folder together."""
    if len(found) > 2 and all(len(series.names) == 1 for series in found):
        return (
            "no other name in the folder differs from this one in numbers alone, so the slice has "
            "no neighbours; number the slices, in order"
        )
    numbers = sorted(number for series in found for number in series.numbers)
    if len(found) > 1 and all(s.numbers for s in found) and _is_even(Series([], numbers)):
        return (
            f"the numbers of several series, such as those of {found[0].names[0]} and "
            f"{found[1].names[0]}, are evenly spaced together; if these are one scan, name its "
            "slices alike but for the number"
        )
    return ""


def _by_form(names: Sequence[str], number: re.Pattern[str]) -> Iterator[list[str]]:
    """Group names that differ in such numbers alone, whatever their suffix is, if that is one."""
    groups: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in names:
        stem = stem_of(Path(name))
        suffix = name.removeprefix(stem)
        kind = SAME_SUFFIX.get(suffix.lower(), suffix.lower())
        # Names without a number are one series, whatever they are.
        texts = tuple(number.split(stem)) if number.search(stem) else ()
        groups.setdefault((*texts, kind), {}).setdefault(suffix, []).append(name)
    for by_suffix in groups.values():
        stems = [stem_of(Path(name)) for group in by_suffix.values() for name in group]
        if len(set(stems)) == len(stems):
            yield natsorted(name for group in by_suffix.values() for name in group)
        else:
            yield from by_suffix.values()


def _read(names: list[str]) -> list[Series]:
    """Divide names that differ in positions alone into series."""
    if POSITION.search(stem_of(Path(names[0]))) is None:
        return [Series(names)]
    positions = _divide(_form(names, POSITION))
    forms = list(_by_form(names, COUNT))
    counts = [series for form in forms for series in _divide(_form(form, COUNT))]
    if [series.names for series in counts] == [series.names for series in positions]:
        return counts
    if all(map(_is_even, positions)):
        return positions
    alike = len({tuple(series.numbers) for series in counts}) == 1
    if len(forms) == 1 and alike and all(map(_is_even, counts)):
        return counts
    if all(_is_even(series, gaps=True) for series in positions):
        return positions
    doubt = (
        f"in names such as {names[0]} and {names[-1]}, a sign or a point may be part of the "
        "number, or not; as positions, these are not evenly spaced. They are not taken for "
        "positions: number the slices instead, in order"
    )
    return [series._replace(doubt=doubt) for series in counts]


def _form(names: Sequence[str], number: re.Pattern[str]) -> _Form:
    stems = {name: stem_of(Path(name)) for name in names}
    found = {name: [match[0] for match in number.finditer(stem)] for name, stem in stems.items()}
    columns = zip(*found.values(), strict=True)
    is_sign = [not all(text.startswith("-") for text in column) for column in columns]
    rows = {
        name: tuple(
            float(text) if signed else abs(float(text))
            for text, signed in zip(row, is_sign, strict=True)
        )
        for name, row in found.items()
    }
    return _Form(number.split(stems[names[0]]), rows)


def _divide(form: _Form) -> list[Series]:
    """Divide the names of a form into series by the numbers that do not number slices."""
    varying = [k for k in range(len(form.texts) - 1) if len(set(form.column(k))) > 1]
    if not varying:
        return [Series(list(form.rows))]
    marked = [k for k in varying if OF_SLICES.search(form.texts[k])]
    values = {k: len(set(form.column(k))) for k in varying}
    # As in sample_z1_0007, of two heights.
    is_marked = bool(marked) and values[marked[-1]] == max(values.values())
    place = marked[-1] if is_marked else varying[-1]
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, row in form.rows.items():
        groups.setdefault(tuple(row[k] for k in varying if k != place), []).append(name)
    longest = max(map(len, groups.values()))
    if longest == 1:
        return [_all(form, marked or varying)]
    doubt = ""
    whole = _in_order(form, list(form.rows), place)
    if len(groups) > 1 and len(set(whole.numbers)) == len(whole.names):
        # No two names share the number. Where others change to and fro, they are not of series.
        others = [tuple(form.rows[name][k] for k in varying if k != place) for name in whole.names]
        changes = sum(one != other for one, other in pairwise(others))
        if changes >= len(groups):
            return [whole]
        doubt = (
            f"the numbers of slices go on from one of {len(groups)} series to the next; if they "
            "are one, leave out the other number that differs between the names"
        )
    elif len(groups) > 1 and not is_marked and longest < 2 * len(groups):
        # Such as of hours and minutes.
        doubt = (
            "several numbers differ between the names; the last one is taken for that of slices, "
            f"in {len(groups)} series of {longest} at most. If another one is, write z before it, "
            "as in z0001"
        )
    return [_in_order(form, names, place, doubt) for names in groups.values()]


def _all(form: _Form, places: Sequence[int]) -> Series:
    """One series of all names, in the order of a number that is another one in each."""
    names = list(form.rows)
    own = [k for k in places if len(set(form.column(k))) == len(names)]
    if not own:  # as hours, minutes and seconds
        return Series(names, range(len(names)))
    series = [_in_order(form, names, k) for k in own]
    even = [found for found in series if _is_even(found)]
    doubt = ""
    if not even and any(found.names != series[0].names for found in series):
        doubt = (
            "several numbers differ between the names and would order them differently; the first "
            "one is taken for that of slices. If another one is, write z before it, as in z0001"
        )
    return (even or series)[0]._replace(doubt=doubt)


def _in_order(form: _Form, names: Sequence[str], place: int, doubt: str = "") -> Series:
    ordered = sorted(names, key=lambda name: form.rows[name][place])
    return Series(ordered, [form.rows[name][place] for name in ordered], doubt)


def _is_even(series: Series, *, gaps: bool = False) -> bool:
    """Whether three or more numbers are evenly spaced; with ``gaps``, but for some in between."""
    steps = [after - before for before, after in pairwise(series.numbers)]
    if len(steps) < 2 or min(steps) <= 0:
        return False
    usual = min(steps)
    tolerance = 1e-6 * max(1.0, *map(abs, series.numbers))
    if not gaps:
        return max(steps) - usual < tolerance
    is_usual = [step - usual < tolerance for step in steps]
    return 2 * sum(is_usual) > len(steps) and all(
        abs(step - usual * round(step / usual)) < tolerance for step in steps
    )

"""How the slices in a folder are numbered, told from all of their names.

Names that differ in numbers alone have one form, as `scan#_#.tif`. If only one of the numbers
differs, it numbers the slices, wherever it stands. If several do, as in `scan1_0001.tif`, it is the
one behind a z or the word "slice", else the last one; what the others say are series of their own,
unless each slice would be one. Positions are numbers, too: `0.5`, `1.0`, `1.5` if they are evenly
spaced, and `z-2`, `z-1`, `z0`. What looks like several of these gets a doubt, for a warning.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted

from msdtool.data.containers.registry import stem_of

NUMBER = re.compile(r"\d+")
OF_SLICES = re.compile(r"(?:^|[^a-z])(?:z|sl|slice)[^a-z]?$", re.IGNORECASE)
"""What stands before a number that is one of slices whatever follows it."""


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
    """Names that differ in numbers alone: the text around the numbers, and the rows of numbers."""

    texts: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    doubt: str = ""


def find_numbering(names: Iterable[str]) -> dict[str, Series]:
    """Return the series that each name of a folder belongs to."""
    forms: dict[tuple[str, ...], _Form] = {}
    for name in natsorted(names):
        stem = stem_of(Path(name))
        suffix = name.removeprefix(stem)
        texts = (*NUMBER.split(stem)[:-1], NUMBER.split(stem)[-1] + suffix)
        if len(texts) == 1:
            texts = (suffix,)  # the same series for all names without a number
        form = forms.setdefault(texts, _Form(texts, {}))
        form.rows[name] = tuple(map(int, NUMBER.findall(stem)))
    return {
        name: series
        for form in _with_signs(forms)
        for series in _divide(_with_decimals(form))
        for name in series.names
    }


def _with_signs(forms: dict[tuple[str, ...], _Form]) -> Iterable[_Form]:
    """Join `z-1`, whose form is `z-#`, and `z0` if the numbers are evenly spaced then."""
    forms = dict(forms)
    for texts, form in list(forms.items()):
        signs = [k for k, text in enumerate(texts[:-1]) if re.search(r"(?:^|[^0-9-])-$", text)]
        for place in signs:
            plain = (*texts[:place], texts[place][:-1], *texts[place + 1 :])
            if plain not in forms:
                continue
            other = forms[plain]
            rows = {name: _negated(row, place) for name, row in form.rows.items()} | other.rows
            if _is_even({row[place] for row in rows.values()}):
                forms[plain] = _Form(plain, rows)
                del forms[texts]
            else:
                doubt = (
                    f"some names have a minus before the number, as {next(iter(form.rows))}, and "
                    f"some do not, as {next(iter(other.rows))}; these are taken for two series. "
                    "If they are positions, some are missing: number the slices instead, in order"
                )
                forms[texts], forms[plain] = form._replace(doubt=doubt), other._replace(doubt=doubt)
            break
    return forms.values()


def _negated(row: tuple[float, ...], place: int) -> tuple[float, ...]:
    return (*row[:place], -row[place], *row[place + 1 :])


def _with_decimals(form: _Form) -> _Form:
    """Take `#.#` for one number if these are evenly spaced."""
    points = [k for k in _varying(form) if k > 0 and form.texts[k] == "."]
    if not points:
        return form
    place = points[-1]
    values = {name: _decimal(name, place) for name in form.rows}
    if len(set(values.values())) == len(values) and _is_even(set(values.values())):
        texts = (*form.texts[:place], *form.texts[place + 1 :])
        rows = {
            name: (*row[: place - 1], values[name], *row[place + 1 :])
            for name, row in form.rows.items()
        }
        return _Form(texts, rows, form.doubt)
    groups: dict[float, set[float]] = {}
    for row in form.rows.values():
        groups.setdefault(row[place - 1], set()).add(row[place])
    if all(map(_is_even, groups.values())):
        return form
    return form._replace(
        doubt=f"the numbers on both sides of the point, as in {next(iter(form.rows))}, are taken "
        "for two, the second one of slices. If they are positions, they are not evenly spaced, or "
        "some are missing: number the slices instead, in order"
    )


def _decimal(name: str, place: int) -> float:
    """The number of which ``place`` is the part behind the point."""
    whole, fraction = list(NUMBER.finditer(name))[place - 1 : place + 1]
    return float(f"{whole[0]}.{fraction[0]}")


def _divide(form: _Form) -> Iterable[Series]:
    """Divide the names of a form into series by the numbers that do not number slices."""
    names = list(form.rows)
    varying = _varying(form)
    if not varying:
        return [Series(names, (), form.doubt)]
    marked = [k for k in varying if OF_SLICES.search(form.texts[k])]
    place = (marked or varying)[-1]
    others = [k for k in varying if k != place]
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, row in form.rows.items():
        groups.setdefault(tuple(row[k] for k in others), []).append(name)
    if others and all(len(group) == 1 for group in groups.values()):
        groups = {(): names}  # as of a time in each name
    doubt = form.doubt
    widest = max(len({row[k] for row in form.rows.values()}) for k in varying)
    if not doubt and not marked and len(groups) > 1 and widest > max(map(len, groups.values())):
        doubt = (
            f"several numbers differ between the names; the last one is taken for that of slices, "
            f"in {len(groups)} series of {max(map(len, groups.values()))} at most. If another one "
            "is, write z before it, as in z0001"
        )
    return [_in_order(form, group, place, doubt) for group in groups.values()]


def _in_order(form: _Form, names: list[str], place: int, doubt: str) -> Series:
    ordered = sorted(names, key=lambda name: form.rows[name][place])
    return Series(ordered, [form.rows[name][place] for name in ordered], doubt)


def _varying(form: _Form) -> list[int]:
    """The places of the numbers that are not the same in all names."""
    columns = list(zip(*form.rows.values(), strict=True))
    return [k for k, column in enumerate(columns) if len(set(column)) > 1]


def _is_even(values: set[float]) -> bool:
    """Whether three or more numbers are evenly spaced."""
    ordered = sorted(values)
    steps = [after - before for before, after in pairwise(ordered)]
    return len(steps) > 1 and max(steps) - min(steps) < 1e-6 * max(1.0, *map(abs, ordered))

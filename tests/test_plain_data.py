"""Plain data against declared types, and dataclasses made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from msdtool.plain_data import fits, read, type_text


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1, bool, False),
        (False, bool, True),
        (1, float, True),
        (1.5, int, False),
        (True, float, False),
        ("a", str, True),
        (None, int | None, True),
        (None, int, False),
        ([1, 2], int | tuple[int, ...], True),
        ([1, "a"], tuple[int, ...], False),
        (3, tuple[int, int], False),
        ([[1, 2]], tuple[tuple[int, int], ...], True),
        ("same", Literal["same", "valid"], True),
        ("none", Literal["same", "valid"], False),
        ({"a": 1}, Mapping[str, int], True),
        ({"a": 1}, Mapping[str, str], False),
        ({1: 1}, dict[str, int], False),
        ({"a": 1}, list[int], False),
        (object(), Any, True),
        ("a", type, False),
    ],
)
def test_values_fit_the_types_they_are_of(value, hint, expected):
    assert fits(value, hint) == expected


def test_types_are_told_in_words():
    assert type_text(int | tuple[int, ...] | None) == "an integer or a list or null"
    assert type_text(Literal["a", "b"]) == "'a', 'b'"


@dataclass(frozen=True)
class Inner:
    """Part of another."""

    x: int | None


@dataclass(frozen=True)
class Outer:
    """What is read."""

    inner: Inner
    sizes: tuple[float, ...]
    names: list[str]
    more: int = 7


def test_a_dataclass_is_read_and_what_it_does_not_have_is_ignored():
    content = {"sizes": [1, 2.5], "names": ["a"], "inner": {"x": None, "y": 1}, "newer": 3}
    assert read(Outer, content, "file") == Outer(Inner(None), (1, 2.5), ["a"], 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": ...}, "file.sizes is missing"),
        ({"sizes": ..., "names": ...}, "file.sizes, file.names are missing"),
        ({"inner": {}}, "file.inner.x is missing"),
        ({"inner": 3}, "file.inner is 3; expected keys and values"),
        ({"inner": {"x": "a"}}, "file.inner.x is 'a'; expected an integer or null"),
        ({"sizes": 3}, "file.sizes is 3; expected a list"),
        ({"more": True}, "file.more is True; expected an integer"),
    ],
)
def test_the_key_that_cannot_be_read_is_named(changes, message):
    content = {"sizes": [], "names": [], "inner": {"x": 1}, **changes}
    content = {key: value for key, value in content.items() if value is not ...}
    with pytest.raises(ValueError) as error:
        read(Outer, content, "file")
    assert str(error.value) == message


def test_at_the_top_keys_stand_alone():
    with pytest.raises(ValueError, match=r"^inner.x is 1.5; expected"):
        read(Outer, {"sizes": [], "names": [], "inner": {"x": 1.5}}, "")
    with pytest.raises(ValueError, match=r"^sizes is missing$"):
        read(Outer, {"names": [], "inner": {"x": 1}}, "")

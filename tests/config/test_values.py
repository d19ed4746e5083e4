"""Values that YAML has no type for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdtool.config.values import (
    parse_blind_mask,
    parse_class_weights,
    parse_crop,
    parse_digest,
    parse_duration,
    parse_freeze,
    parse_labels,
    parse_specifier,
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("30s", 30),
        ("90m", 5400),
        ("90 m", 5400),
        ("11.5h", 41400),
        ("2d", 172800),
        ("11:30:00", 41400),
        ("0:00:01", 1),
        ("1-02:03:04", 93784),
        ("100:00:00", 360000),
    ],
)
def test_durations_are_seconds(value, seconds):
    assert parse_duration(value) == seconds


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_durations_as_clusters_write_them(days, hours, minutes, seconds):
    expected = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_duration(f"{days}-{hours}:{minutes:02}:{seconds:02}") == expected


@pytest.mark.parametrize(
    "value",
    [0, -1, True, None, [], "soon", "", "5", "5 x", "0s", "-3m", "11:30", "1:2:3",
     float("nan"), float("inf")],
)  # fmt: skip
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ValueError, match="expected a time such as 30s"):
        parse_duration(value)


@pytest.mark.parametrize(
    "value",
    ["block", ["blocks"], [3], [{"block": 0}], [{"block": True}], [{"stem": 2}], [{}], [None],
     [{"block": 2, "stem": 1}], ["block", {"block": 2}], ["stem", "stem"], {"block": 2}],
)  # fmt: skip
def test_what_is_no_part_of_a_network_cannot_be_frozen(value):
    with pytest.raises(ValueError, match="expected"):
        parse_freeze(value)


@pytest.mark.parametrize(
    "value", [{"C": 2}, {"x": 2}, {"X": 0}, {"X": 51}, {"X": True}, {"X": 1.5}, ["X"], 5, None]
)
def test_what_is_no_mask_of_blind_spots_is_refused(value):
    with pytest.raises(ValueError, match="expected 1 to 50 pixels for some of Z, Y, X"):
        parse_blind_mask(value)


@pytest.mark.parametrize("value", ["ab" * 31, "AB" * 32, "xy" * 32, 5, None])
def test_what_is_no_digest_is_refused(value):
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits"):
        parse_digest(value)


@pytest.mark.parametrize("value", ["a.tif", "b/*.tif", ["a", "b/**/*.png"]])
def test_specifiers(value):
    assert parse_specifier(value) == value


@pytest.mark.parametrize("value", ["", [], [""], ["a", 3], 3, None, {"a": "b"}])
def test_what_is_no_specifier_is_refused(value):
    with pytest.raises(ValueError, match="expected a path, a glob pattern, or a list of these"):
        parse_specifier(value)


@pytest.mark.parametrize("value", [2, 300, [0, 255], [3, 1, 2], [-1, 1]])
def test_labels(value):
    assert parse_labels(value) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (10**9, "expected 2 to 4096 labels"),
        ([0, 10**20], "integers of magnitude at most 2147483647"),
        (1, "expected 2 to 4096 labels"),
        (0, "expected 2 to 4096 labels"),
        ([7], "expected 2 to 4096 labels"),
        ([], "expected 2 to 4096 labels"),
        ([1, 2, 1], "distinct label values"),
        (True, "the number of labels, or a list of integers"),
        (2.0, "the number of labels, or a list of integers"),
        ([0, 1.0], "a list of integers"),
        ([0, True], "a list of integers"),
        ("3", "the number of labels"),
    ],
)
def test_what_are_no_labels_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        parse_labels(value)


@pytest.mark.parametrize("value", [1, [2, 3], [4, 5, 6]])
def test_crops(value):
    assert parse_crop(value) == value


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "5", [], [1, 0], [1, 2, 3, 4]])
def test_what_is_no_crop_is_refused(value):
    with pytest.raises(ValueError, match="expected a positive integer"):
        parse_crop(value)


def test_class_weights():
    assert parse_class_weights("balanced") == "balanced"
    assert parse_class_weights([1, 2.5]) == [1.0, 2.5]


@pytest.mark.parametrize(
    "value", ["balancd", 1, [1, 0], [1, -1], [True, 1], ["1"], [float("nan")], [float("inf")], {}]
)
def test_what_are_no_class_weights_is_refused(value):
    with pytest.raises(ValueError, match='expected "balanced" or a list of positive numbers'):
        parse_class_weights(value)

import random

import pytest

from msdtool.data.numbering import find_numbering

TIMES = ("120512", "120601", "120605")


def series_of(names):
    """The different series in a folder, whose names are listed in any order."""
    names = list(names)
    listed = random.Random(0).sample(names, len(names))
    found = find_numbering(listed)
    assert found.keys() == set(names)
    return list({tuple(series.names): series for series in found.values()}.values())


@pytest.mark.parametrize("names", [
    [f"{number}.tif" for number in range(8, 13)],
    [f"rec_{number:04}_bin2.tif" for number in range(5)],
    [f"rec_{number:04}_2024-05-01.tif" for number in range(5)],
    [f"2024-05-01_{number}.tif" for number in (9, 10, 11)],
    [f"rec_{number / 2}.tif" for number in range(20)],
    [f"rec_{number / 4}mm_bin2.tif" for number in range(20)],
    [f"rec_0.{number}.tif" for number in ("2", "4", "6", "8")],
    [f"rec_0.{number}.tif" for number in ("25", "5", "75")],
    [f"scan.{number}" for number in range(8, 12)],
    [f"z{number}.tif" for number in range(-10, 10)],
    [f"{number}.tif" for number in range(-3, 4)],
    [f"a_{time}_{number}.tif" for number, time in enumerate(TIMES, 7)],
    [f"{number}_{time}.tif" for number, time in enumerate(TIMES, 9)],
    [f"rec_{number:04}_T{295 + number % 3}K.tif" for number in range(12)],
    [f"img_{k:03}_2024-05-03T12-{k // 3:02}-{20 * (k % 3):02}.tif" for k in range(12)],
    [f"rec_{number / 2:g}.tif" for number in range(12)],
    [f"rec_{number / 4:g}_b2.tif" for number in range(12)],
    [f"z_{number:+04}.tif" for number in range(-6, 6)],
    [f"z{number / 2}.tif" for number in range(-11, 2)],
    [f"s{number:04}.{'tif' if number < 6 else 'tiff'}" for number in range(12)],
    [f"s{number:04}.{'tif' if number < 6 else 'TIF'}" for number in range(12)],
    [f"v1.5_{number:04}.tif" for number in (1, 2, 5)],
])  # fmt: skip
def test_one_series_is_in_order_without_doubt(names):
    (series,) = series_of(names)
    assert series.names == names
    assert not series.doubt
    assert list(series.numbers) == sorted(series.numbers)
    assert len(series.numbers) == len(names)


@pytest.mark.parametrize(("first", "second"), [
    ("scan1_{:04}.tif", "scan2_{:04}.tif"),
    ("a_{}.tif", "b_{}.tif"),
    ("a_{}.tif", "a_{}.png"),
    ("a_{}.tif", "a_{}.tiff"),
    ("z{:04}_ch1.tif", "z{:04}_ch2.tif"),
    ("z_{}_ch1.tif", "z_{}_ch2.tif"),
    ("slice{}-1.tif", "slice{}-2.tif"),
    ("t.1.{}.tif", "t.2.{}.tif"),
])  # fmt: skip
def test_two_series_stay_apart_without_doubt(first, second):
    names = [[text.format(number) for number in range(1, 21)] for text in (first, second)]
    found = series_of(names[0] + names[1])
    assert sorted(series.names for series in found) == sorted(names)
    assert not any(series.doubt for series in found)
    assert all(list(series.numbers) == list(range(1, 21)) for series in found)


def test_numbers_go_on_where_a_gap_is():
    (series,) = series_of(f"rec_{number:04}_bin2.tif" for number in (0, 1, 4))
    assert list(series.numbers) == [0, 1, 4]


@pytest.mark.parametrize("names", [
    [f"rec_{number / 2}.tif" for number in range(20) if number != 5],
    [f"rec_{number / 2:g}.tif" for number in range(20) if number not in (5, 6)],
    [f"rec_{number / 10}.tif" for number in range(30) if number != 10],
    [f"rec_{number / 10}.tif" for number in range(30) if number not in (10, 20)],
    [f"z{number}.tif" for number in range(-10, 10) if number != 3],
    [f"z{number}.tif" for number in range(-10, 10) if number != -3],
])  # fmt: skip
def test_positions_may_have_gaps(names):
    (series,) = series_of(names)
    assert series.names == names
    assert not series.doubt


@pytest.mark.parametrize("form", ["z{:04}_T{}K.tif", "rec_T{1}K_{0:04}.tif", "slice{}_{}.tif"])
def test_what_changes_to_and_fro_does_not_divide_a_scan(form):
    names = [form.format(number, 295 + number % 3) for number in range(12)]
    (series,) = series_of(names)
    assert series.names == names
    assert not series.doubt


@pytest.mark.parametrize(("names", "words"), [
    ([f"rec_{number}.tif" for number in (0.0, 0.3, 0.5, 1.1)], "a sign or a point may be part"),
    ([f"z{number}.tif" for number in (-7, -4, 1, 2, 9)], "a sign or a point may be part"),
    ([f"s{number // 6}_{number:03}.tif" for number in range(12)], "go on from one of 2 series"),
    ([f"img_12-{k // 3:02}-{20 * (k % 3):02}.tif" for k in range(12)], "write z before it"),
    ([f"a{n}_{channel}.tif" for n in range(20) for channel in (1, 2)], "write z before it"),
])  # fmt: skip
def test_what_can_be_understood_otherwise_is_told(names, words):
    found = series_of(names)
    assert all(words in series.doubt for series in found)


@pytest.mark.parametrize(("names", "words"), [
    ([f"fib_{12 + k // 4}-{15 * (k % 4):02}.tif" for k in range(12)], "several numbers differ"),
    ([f"rec_{k // 4:02}p{25 * (k % 4):02}.tif" for k in range(12)], "several numbers differ"),
    ([f"rec_{n:04}_{('fwd', 'bwd')[n % 2]}.tif" for n in range(12)], "evenly spaced together"),
    ([f"part{'AB'[n // 6]}_{n:03}.tif" for n in range(12)], "evenly spaced together"),
    ([f"img_{number:04}_{word}.tif" for number, word in enumerate("abcd")], "no other name in"),
])  # fmt: skip
def test_series_that_look_like_parts_of_one_are_told_of(names, words):
    assert all(words in series.doubt for series in series_of(names))


@pytest.mark.parametrize("form", ["sample_z{}_rec_{:04}.tif", "scan{}_slice{:04}.tif"])
def test_a_z_with_fewer_values_is_a_height(form):
    found = series_of(form.format(z, number) for z in (0, 1) for number in range(12))
    assert [len(series.names) for series in found] == [12, 12]
    assert not any(series.doubt for series in found)


def test_numbers_that_order_the_same_names_differently_are_told_of():
    (series,) = series_of(["a_7_3.tif", "a_5_4.tif", "a_1_9.tif"])
    assert series.names == ["a_1_9.tif", "a_5_4.tif", "a_7_3.tif"]
    assert "would order them differently" in series.doubt


def test_names_without_numbers_are_in_alphabetical_order():
    (series,) = series_of(["q.tif", "a.tif", "m.tif"])
    assert series == (["a.tif", "m.tif", "q.tif"], (), "")


def test_a_name_of_its_own_form_is_alone():
    found = series_of(["flat.tif", "s_1.tif", "s_2.tif", "dark_7.tif"])
    assert [series.names for series in found if len(series.names) == 1] == [
        ["dark_7.tif"], ["flat.tif"]
    ]  # fmt: skip

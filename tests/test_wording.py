from msdtool.wording import bounds, number


def test_numbers_are_short():
    assert [number(value) for value in (1 / 3, 12, None)] == ["0.33333", "12", "None"]


def test_an_interval_is_told_where_both_ends_are_known():
    assert bounds([1 / 3, 12.0]) == "0.33333 to 12"
    assert bounds([None, 1.0]) == bounds([float("nan"), 1.0]) == bounds([]) == ""

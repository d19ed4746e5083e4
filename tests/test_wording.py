from msdtool.wording import bounds, number, readable


def test_numbers_are_short():
    assert [number(value) for value in (1 / 3, 12, None)] == ["0.33333", "12", "None"]


def test_an_interval_is_told_where_both_ends_are_known():
    assert bounds([1 / 3, 12.0]) == "0.33333 to 12"
    assert bounds([None, 1.0]) == bounds([float("nan"), 1.0]) == bounds([]) == ""


def test_values_of_configs_are_told_in_words():
    values = {"path": ["a", "b"], "axes": None, "swap": True, "percentiles": (1, 99.5)}
    assert readable(values) == "path a, b, axes none, swap yes, percentiles 1, 99.5"
    assert [readable(value) for value in ([], {}, False)] == ["none", "none", "no"]

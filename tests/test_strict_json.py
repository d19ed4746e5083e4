import json
import math

from msdtool import strict_json


def test_what_is_not_finite_becomes_null_at_any_depth():
    value = {"a": [math.nan, 1.5, (math.inf, -math.inf)], 127: {"b": math.nan, "c": None}}
    assert json.loads(strict_json.dumps(value)) == {
        "a": [None, 1.5, [None, None]],
        "127": {"b": None, "c": None},
    }


def test_it_is_one_line_of_readable_text():
    assert strict_json.dumps({"path": "Zürich\n2"}) == '{"path": "Zürich\\n2"}'


def test_no_character_of_it_controls_a_terminal():
    text = strict_json.dumps({"path": "a\x1b[2J\x7f\x9b2J"})
    assert text == r'{"path": "a\u001b[2J\u007f\u009b2J"}'
    assert json.loads(text) == {"path": "a\x1b[2J\x7f\x9b2J"}


def test_what_the_file_cannot_hold_is_escaped_so_that_parsers_restore_it():
    for name, encoding in (("scan\udce4", "utf-8"), ("\U0001f600é", "ascii")):
        text = strict_json.dumps({"path": name}, encoding)
        text.encode(encoding)
        assert json.loads(text) == {"path": name}

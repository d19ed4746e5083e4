"""YAML as people write it, and where its mistakes are."""

from pathlib import Path

import pytest
import yaml

from msdtool.config import yaml_file
from msdtool.config.yaml_file import YamlFile, dotted, parse_value, read_yaml
from msdtool.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("1", 1),
        ("+7", 7),
        ("010", 10),
        ("09", 9),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("11:30:00", "11:30:00"),
        ("90:30", "90:30"),
        ("1_000", "1_000"),
        ("2024-05-17", "2024-05-17"),
        ("2024-13-45", "2024-13-45"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("true", True),
        ("no", False),
        ("", None),
        ("~", None),
        ("'1'", "1"),
        ("[1, 0x10, 1e1, a]", [1, 16, 10.0, "a"]),
    ],
)
def test_values_are_read_as_people_mean_them(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert parse_value(".nan") != parse_value(".nan")


def test_every_key_has_its_line():
    source = YamlFile("a: 1\nb:\n  c: [1,\n    2]\n  d: {e: 3}\n", "x.yaml")
    assert source.tree == {"a": 1, "b": {"c": [1, 2], "d": {"e": 3}}}
    assert source.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", 0): 3,
        ("b", "c", 1): 4,
        ("b", "d"): 5,
        ("b", "d", "e"): 5,
    }
    assert source.where(("b", "c", 1)) == "x.yaml:4"
    assert source.where(("b", "missing", "too")) == "x.yaml:2"
    assert source.where(("missing",)) == "x.yaml"


def test_keys_are_names_even_if_they_look_like_numbers():
    assert YamlFile("1: a\nyes: b\n2024-01-01: c\n", "x").tree == {
        "1": "a",
        "yes": "b",
        "2024-01-01": "c",
    }


def test_sections_may_be_merged_with_anchors():
    source = YamlFile("base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n", "x")
    assert source.tree["more"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "x:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: {b: 1\nc: 2", "x:2:2: not valid YAML: while parsing a flow mapping, expected ',' or"),
        ("a:\n\tb: 3", "x:2:1: not valid YAML: while scanning"),
        ("a:\n\tb: 3", "indent with spaces, not tabs"),
        ("a: 'b", "x:1:6: not valid YAML: while scanning a quoted scalar, found unexpected end"),
        ("a: 1\nb: *c", "x:2:4: not valid YAML: found undefined alias 'c'"),
        ("a: 1\n---\nb: 2", "expected a single document in the stream, but found another"),
        ("a: !!python/name:os.system b", "x:1:4: not valid YAML: could not determine a constr"),
        ("a: 1\nb: \x07", "x:2: not valid YAML: contains the character '\\x07', which text files"),
        ("a: &a [*a]", "x: not valid YAML: nested too deeply, or an alias refers to itself"),
        ("a: " + 5000 * "[", "x: not valid YAML: nested too deeply"),
        ("a: 1\n[b]: 2", "x:2: a key must be a single word"),
        ("a: 1\nb: 2\na: 3", "x:3: a: given twice, first on line 1; remove one"),
        ("s:\n  a: 1\n  a: 3", "x:3: s.a: given twice, first on line 2; remove one"),
        ("", "x: expected keys such as task: and data:, found nothing; 'msdtool init' writes"),
        ("# only a comment", "found nothing"),
        ("[1, 2]", "found a list"),
        ("some words", "found a single value"),
    ],
)
def test_what_is_not_a_config_is_refused_with_its_place(text, message):
    with pytest.raises(ConfigError) as error:
        YamlFile(text, "x")
    assert message in error.value.message
    assert "\n" not in error.value.message


def test_files_are_utf8(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("directory: größe/µm".encode())
    assert read_yaml(path).tree == {"directory": "größe/µm"}
    path.write_bytes("directory: größe".encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert error.value.message == f"{path}: not a text file in UTF-8"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbftask: regression\n")
    assert read_yaml(path).tree == {"task": "regression"}


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"none\.yaml: no such file; 'msdtool init' writes a config"
    ):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError) as error:
        read_yaml(tmp_path)
    assert error.value.message == f"{tmp_path}: is a folder, not a file"


def test_key_paths_are_shown_as_users_write_them():
    assert dotted(("data", "train", "input")) == "data.train.input"
    assert dotted(("network", "dilations", 2)) == "network.dilations[2]"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("!!int abc", "int"),
        ("!!float abc", "float"),
        ("!!timestamp abc", "timestamp"),
        ("!!bool maybe", "bool"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_named_with_its_line(value, kind):
    with pytest.raises(ConfigError) as error:
        YamlFile(f"task: x\nkey: {value}\n", "a.yaml")
    assert error.value.message.startswith("a.yaml:2:6: not valid YAML: cannot read ")
    assert error.value.message.endswith(f"as a value of type {kind}")


@pytest.mark.parametrize("value", [2**53, -(2**53), "0x20000000000000"])
def test_the_largest_integers_are_read(value):
    assert abs(YamlFile(f"key: {value}", "x").tree["key"]) == 2**53


@pytest.mark.parametrize(
    "value",
    [2**53 + 1, -(2**53) - 1, 2**63, 10**400, "9" * 5000, f"0x{'f' * 5000}", f"0o{'7' * 99}"],
)
def test_integers_that_floats_do_not_hold_are_refused(value):
    with pytest.raises(ConfigError) as error:
        YamlFile(f"task: x\nkey: [{value}]\n", "a.yaml")
    assert error.value.message.startswith("a.yaml:2:7: not valid YAML: cannot read ")
    assert error.value.message.endswith(": integers have at most the size 9,007,199,254,740,992")
    assert len(error.value.message) < 200


LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGES = "m0: &m0 {k: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)


@pytest.mark.parametrize("text", [LAUGHS, MERGES], ids=["aliases", "merges"])
def test_a_few_lines_that_stand_for_billions_of_values_are_refused(text):
    with pytest.raises(ConfigError, match=r"^x: has [\d.]+e\+\d+ values, aliases resolved"):
        YamlFile(text, "x")
    with pytest.raises(yaml.YAMLError, match="values, aliases resolved"):
        parse_value(text)


@pytest.mark.parametrize("values", ["1, ", "*b, ", "[], "])
def test_what_has_too_many_values_is_not_parsed_to_its_end(monkeypatch, values):
    monkeypatch.setattr(yaml_file, "MAX_VALUES", 100)
    text = "b: &b [0]\na: ["
    with pytest.raises(ConfigError) as error:
        YamlFile(f"{text}{values * 200}: }} what no YAML has", "x")
    assert error.value.message == (
        "x: has more than 100 values, the most that are read; name many images by a list, as in "
        "input: '@images.txt'"
    )
    assert len(YamlFile(f"{text}{'1, ' * 90}]", "x").tree["a"]) == 90


def test_a_list_of_many_values_is_read():
    assert len(YamlFile(f"a: [{', '.join(['1'] * 90_000)}]", "x").tree["a"]) == 90_000


@pytest.mark.parametrize("text", ["[" * 3000, "&a [*a]"])
def test_a_value_nested_too_deeply_is_no_yaml(text):
    with pytest.raises(yaml.YAMLError, match="nested too deeply"):
        parse_value(text)


def test_a_config_that_never_ends_is_refused():
    with pytest.raises(ConfigError, match="/dev/zero: cannot be read: it is a device"):
        read_yaml(Path("/dev/zero"))

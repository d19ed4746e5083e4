"""The table of config keys."""

from msdtool.config import ExperimentConfig
from msdtool.config.reference import END, START, markdown_table, update


def leaves(section, prefix=""):
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_key_has_a_row_with_default_and_meaning():
    pairs = {"input": "a", "target": "b", "mask": "c"}
    whole = ExperimentConfig.model_validate(
        {"task": "regression", "data": {"train": pairs, "validation": pairs}}
    )
    rows = {}
    for line in markdown_table().splitlines()[2:]:
        _, key, default, meaning, _ = line.replace("\\|", "/").split(" | ".strip())
        rows[key.strip(" `")] = (default.strip(), meaning.strip())
    assert set(leaves(whole.model_dump())) <= set(rows)
    assert all(meaning for _, meaning in rows.values())
    assert rows["task"][0] == "required"
    assert rows["training.epochs"][0] == "`100`"
    assert rows["data.augment"][0] == "`false`"
    assert rows["training.patience"][0] == "null"
    assert rows["training.loss"][1].startswith("`L1`, `L2`, `")


def test_only_what_lies_between_the_markers_is_replaced():
    text = f"# Title\n{START}\nold\n{END}\nmore\n"
    assert update(text) == f"# Title\n{START}\n{markdown_table()}\n{END}\nmore\n"
    assert update(update(text)) == update(text)

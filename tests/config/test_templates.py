"""The configs that ship with the program."""

import pytest

from msdtool.config import dump_config, load_config
from msdtool.resources import resource_folder
from tests.helpers import parse_config

TEMPLATES = sorted(resource_folder("configs").glob("*.yaml"))


def test_there_are_templates():
    names = ["denoise", "segment", "sequence", "volume", "noise2inverse"]
    names += ["slab", "segment-volume"]
    names += ["closing", "context", "superresolution", "finetune", "noise2noise", "noise2void"]
    assert {f"{name}.yaml" for name in names} <= {path.name for path in TEMPLATES}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_template_loads(path):
    config = load_config(path)
    assert parse_config(dump_config(config)) == config


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_key_that_a_template_comments_out_is_right(path):
    """Users take the # away; "# crop: 256   # why" is such a line, prose is not."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    keys = [
        index
        for index, line in enumerate(lines)
        if line.startswith("  # ") and line[4:].split(":")[0].replace("_", "").isalpha()
        and ":" in line and "  # " in line[4:]
    ]  # fmt: skip
    for index in keys:
        lines[index] = lines[index].replace("# ", "", 1)
        parse_config("\n".join(lines))

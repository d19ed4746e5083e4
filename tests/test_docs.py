"""What the documentation lists is what there is."""

import importlib
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / ".docs" / "layers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", ["semifield", "encoding", "layers", "streaming"])
def test_the_tables_list_every_public_name_of_a_family_once(family):
    sections = re.split(r"^## ", TEXT, flags=re.M)
    (section,) = (s for s in sections if f"`msdtool.nn.{family}`" in s.splitlines()[0])
    listed = re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \|$", section, re.M)
    assert sorted(listed) == sorted(importlib.import_module(f"msdtool.nn.{family}").__all__)

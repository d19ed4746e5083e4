"""What the documentation lists is what there is."""

import importlib
import re
from pathlib import Path

import pytest
import torch
import yaml

from msdtool.config import ExperimentConfig
from msdtool.nn.build import architecture, build_network

TEXT = (Path(__file__).parent.parent / ".docs" / "layers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", ["semifield", "encoding", "layers", "streaming"])
def test_the_tables_list_every_public_name_of_a_family_once(family):
    sections = re.split(r"^## ", TEXT, flags=re.M)
    (section,) = (s for s in sections if f"`msdtool.nn.{family}`" in s.splitlines()[0])
    listed = re.findall(r"^\| `(\w+)` \| \S.* \| \S.* \|$", section, re.M)
    assert sorted(listed) == sorted(importlib.import_module(f"msdtool.nn.{family}").__all__)


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", TEXT, re.S))
def test_the_experiments_can_be_built(text):
    sections = yaml.safe_load(text)
    paths = {"input": "in/*.tif", "target": "out/*.tif"}
    experiment = {"task": "regression", "data": {"train": paths}, **sections}
    config = ExperimentConfig.model_validate(experiment)
    network = build_network(architecture(config, 1, 1, (32, 32)))
    scale = 2 if "head" in sections["network"] else 1
    assert network.eval()(torch.ones(1, 1, 32, 32)).shape == (1, 1, scale * 32, scale * 32)


def test_there_are_experiments():
    assert len(re.findall("```yaml", TEXT)) == 2

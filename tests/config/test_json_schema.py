"""The JSON schema of configs: it accepts what the config accepts, and refuses what it can tell."""

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml

from msdtool.config import load_config
from msdtool.config.json_schema import json_schema
from msdtool.config.load import dump_config
from msdtool.config.yaml_file import parse_value, read_yaml
from msdtool.errors import ConfigError
from msdtool.resources import resource_folder
from tests.helpers import parse_config

TEMPLATES = sorted(resource_folder("configs").glob("*.yaml"))
IMAGES = "{input: a, target: b}"


@pytest.fixture(scope="module")
def accepts():
    """Whether the schema accepts a tree."""
    check = fastjsonschema.compile(json_schema())

    def accepts(tree: Any) -> bool:
        try:
            check(tree)
        except fastjsonschema.JsonSchemaValueException:
            return False
        return True

    return accepts


def is_valid(tree: Any) -> bool:
    try:
        parse_config(yaml.safe_dump(tree))
    except ConfigError:
        return False
    return True


def experiment(item: str) -> dict[str, Any]:
    """A small experiment with one value changed: "task | key = value"."""
    task, _, change = item.partition(" | ")
    tree = parse_value(f"{{task: {task}, data: {{train: {IMAGES}}}}}")
    if task == "segmentation":
        tree["data"]["labels"] = 3
    key, _, value = change.partition(" = ")
    *sections, name = key.split(".")
    section = tree
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = parse_value(value)
    return tree


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_are_accepted_as_written_and_as_saved(path: Path, accepts) -> None:
    assert accepts(read_yaml(path).tree)
    assert accepts(yaml.safe_load(dump_config(load_config(path))))


VALID = """
regression | data.train.input = [a, b.h5::/c, '@list.txt']
regression | data.train.input = {path: a, axes: zyxc}
regression | data.train.input = {path: a, shape: [4, 5, 6], dtype: '>u2', axes: null}
regression | data.train = {splits: [a, [b, c], {path: d}], strategy: '1:X'}
regression | data.train = {input: a, blind_spot: {}}
regression | data.train = {input: a, blind_spot: {mask: {X: 5}}, target: null}
regression | data.validation = {slices: [200, 256]}
regression | data.validation = {slices: [[200, 256], [0, 8]]}
regression | data.validation = {fraction: 0.25, patch: 64}
regression | data.validation = {input: a, target: b, mask: c, patch: [64, 65]}
regression | data.augment = true
regression | data.intensity = {gain: [0.9, 1.1], offset: [-1, 1]}
regression | data.cut_out = [0, 0.25]
regression | data.labels = null
regression | network.stem = [ReLU, {ConvLayer: {nf: 4}}]
regression | network.activation = {ReLU: null}
regression | network.padding = zeros
regression | training.loss = L1+SSIM
regression | training.loss = [L2, {Gram: 0.1}]
regression | training.max_time = 11.5h
regression | training.max_time = '1-11:30:00'
regression | training.checkpoint_every = 10m
regression | training.checkpoint_every = 600
regression | training.learning_rate = 1
regression | training = null
regression | run = null
regression | run.directory = "ü ü"
segmentation | data.labels = [0, 127, 255]
segmentation | data.ignore = -1
segmentation | training.class_weights = balanced
segmentation | training.class_weights = [1, 0.5, 2]
segmentation | training.loss = [cross_entropy, {boundary: 0.1}]
segmentation | training.initial = a.pt
""".strip().splitlines()

INVALID = """
denoise | run = null
regression | tusk = 1
regression | data = null
regression | data.train = null
regression | data.train = {input: a}
regression | data.train = {target: a}
regression | data.train = {splits: [a]}
regression | data.train = {splits: [a, b], input: c}
regression | data.train = {input: a, target: b, blind_spot: {}}
regression | data.train = {input: a, blind_spot: {mask: {W: 1}}}
regression | data.train = {input: a, blind_spot: {mask: {X: 0}}}
regression | data.train.input = []
regression | data.train.input = ''
regression | data.train.input = 3
regression | data.train.input = {path: a, axes: XX}
regression | data.train.input = {path: a, axes: ZC}
regression | data.train.input = {path: a, axes: QYX}
regression | data.train.input = {path: a, shape: [4, 5]}
regression | data.train.input = {path: a, dtype: uint16}
regression | data.train.input = {path: a, shape: [4, 0], dtype: uint16}
regression | data.train.input = {path: a, shape: [4, 5], dtype: complex64}
regression | data.train.input = {paths: a}
regression | data.validation = {}
regression | data.validation = {input: a}
regression | data.validation = {fraction: 1.0}
regression | data.validation = {fraction: 0.2, slices: [0, 4]}
regression | data.validation = {fraction: 0.2, mask: a}
regression | data.validation = {slices: [4]}
regression | data.validation = {slices: [-1, 4]}
regression | data.labels = 3
regression | data.augment = sometimes
regression | data.crop = 0
regression | data.crop = [1, 2, 3, 4]
regression | data.slab = -1
regression | data.slab = 1.5
regression | data.intensity = {gain: [0, 1]}
regression | data.intensity = {blur: 3}
regression | data.geometry = {rotation: [-270, 0]}
regression | data.cut_out = [0, 1]
regression | data.cache = 'yes'
regression | network.depth = 0
regression | network.depth = ten
regression | network.dilations = []
regression | network.dilations = [0]
regression | network.ndim = 4
regression | network.padding = mirror
regression | network.stem = ReLU
regression | network.stem = [{ReLU: 1}]
regression | network.stem = [{A: {}, B: {}}]
regression | training.epoch = 3
regression | training.epochs = '3'
regression | training.learning_rate = 0
regression | training.loss = cross_entropy
regression | training.loss = []
regression | training.loss = [{L2: 0}]
regression | training.loss = [{Dice: 1}]
regression | training.loss = [{L1: 1, L2: 1}]
regression | training.class_weights = balanced
regression | training.max_time = soon
regression | training.max_time = 0
regression | training.checkpoint_every = 10 minutes
regression | training.seed = -1
regression | training.device = gpu
regression | training.freeze = [tail]
regression | training.freeze = [{block: 0}]
regression | training.initial_sha256 = abc
regression | run.directory = ''
segmentation | data.labels = null
segmentation | data.labels = 1
segmentation | data.labels = [0, 0]
segmentation | data.labels = [0.5, 1]
segmentation | data.data_range = 1.0
segmentation | data.train = {splits: [a, b]}
segmentation | training.loss = L2
segmentation | training.loss = [TV, Gram]
segmentation | training.class_weights = heavy
segmentation | training.class_weights = [1, -1, 1]
""".strip().splitlines()


@pytest.mark.parametrize("item", VALID)
def test_what_the_config_accepts_the_schema_accepts(item: str, accepts) -> None:
    tree = experiment(item)
    assert is_valid(tree)
    assert accepts(tree)


@pytest.mark.parametrize("item", INVALID)
def test_what_the_schema_refuses_the_config_refuses(item: str, accepts) -> None:
    tree = experiment(item)
    assert not accepts(tree)
    assert not is_valid(tree)


def test_every_key_has_its_meaning_and_every_section_refuses_others() -> None:
    sections = [json_schema(), *json_schema()["definitions"].values()]
    for section in sections:
        assert section["additionalProperties"] is False
    keys = [key for section in sections[1:] for key in section["properties"].values()]
    assert all(key.get("description") for key in keys)


def test_the_command_prints_it(cli, tmp_path) -> None:
    assert json.loads(cli("schema").out) == json_schema()
    assert cli("schema", "-o", tmp_path / "a.json").code == 0
    assert json.loads((tmp_path / "a.json").read_text()) == json_schema()

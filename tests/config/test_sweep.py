"""A grid of settings becomes experiments."""

from itertools import product

import pytest

from msdtool.config.sweep import plan_sweep
from msdtool.errors import ConfigError
from tests.helpers import write_experiment


@pytest.fixture
def config(tmp_path):
    return write_experiment(
        tmp_path / "config.yaml", {"data": {"train": {"input": "i", "target": "t"}}}
    )


def test_every_combination_is_an_experiment_of_its_own(config, tmp_path):
    settings = ["network.depth=3,5", "training.learning_rate=0.1", "training.seed=1,2,3"]
    trials = plan_sweep(config, settings, tmp_path / "out")
    found = [(t.config.network.depth, t.config.training.seed) for t in trials]
    assert found == list(product((3, 5), (1, 2, 3)))
    assert {t.config.training.learning_rate for t in trials} == {0.1}
    assert [t.name for t in trials[:2]] == ["depth-3_seed-1", "depth-3_seed-2"]
    assert [t.config.run.directory for t in trials] == [
        str(tmp_path / "out" / t.name) for t in trials
    ]


def test_values_are_those_of_a_yaml_list(config, tmp_path):
    settings = ["training.loss=L1,[{L2: 1}, {edge: 0.1}]", "training.max_time=90m,null"]
    trials = plan_sweep(config, settings, tmp_path)
    assert trials[0].config.training.loss == "L1"
    assert trials[2].config.training.loss == [{"L2": 1.0}, {"edge": 0.1}]
    assert [t.config.training.max_time for t in trials[:2]] == [5400.0, None]


def test_names_are_names_of_files_and_differ(config, tmp_path):
    settings = ["network.dilations=[1, 2],[1, 3]", "run.tensorboard=true,false"]
    names = [t.name for t in plan_sweep(config, settings, tmp_path)]
    assert len(set(names)) == 4
    assert all(name.replace("-", "").replace("_", "").isalnum() for name in names)
    long = [f"training.initial=/{'a' * 300}/{name}" for name in "bc"]
    assert (
        len(plan_sweep(config, [f"training.seed={','.join(map(str, range(1, 30)))}"], tmp_path))
        == 29
    )
    with pytest.raises(ConfigError, match="named twice"):
        plan_sweep(config, long, tmp_path)


def test_names_of_keys_that_end_alike_are_whole(config, tmp_path):
    settings = ["data.crop=16,32", "training.seed=1,2", "data.validation.fraction=0.1,0.2"]
    names = [t.name for t in plan_sweep(config, [*settings, "data.fraction=0.5,1"], tmp_path)]
    assert names[0] == "crop-16_seed-1_data.validation.fraction-0.1_data.fraction-0.5"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "setting: no key has several values"),
        (["training.seed=1"], "setting: no key has several values"),
        (["training.seed=1,1"], "setting training.seed=1,1: the value 1 is listed twice"),
        (["training.seed"], "setting training.seed: expected key=value,value"),
        (["training.seed=[1,2"], r"setting training.seed=\[1,2: expected key=value,value"),
        (["=1,2"], "setting =1,2: expected key=value,value"),
        (["run.directory=a,b"], "setting run.directory=a,b: each run has a folder of its own"),
        (["training.seed=1,x"], 'setting training.seed="x".* training.seed: got'),
        (["training.sed=1,2"], "training.sed"),
        (
            [
                f"{key}={','.join(map(str, range(1, 102)))}"
                for key in ("training.seed", "network.depth")
            ],
            "10201 combinations of values; at most 10000",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(config, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        plan_sweep(config, settings, tmp_path)

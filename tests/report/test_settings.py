import logging

import pytest

from msdtool.report.settings import differing_settings, in_words, shown

CONFIG = """
task: regression
data:
  train: {{input: {input}, target: clean}}
network: {{depth: {depth}}}
training: {{loss: {loss}, learning_rate: {rate}}}
run: {{directory: {name}}}
"""


@pytest.fixture
def run(tmp_path):
    def write(name, *, input="noisy", depth=30, loss="L2", rate=0.01):
        (tmp_path / name).mkdir()
        text = CONFIG.format(name=name, input=input, depth=depth, loss=loss, rate=rate)
        (tmp_path / name / "config.yaml").write_text(text)
        return tmp_path / name

    return write


def test_only_keys_that_differ_are_told_and_not_the_folder(run):
    one, two = run("one"), run("two", depth=60, loss="[L1, SSIM]")
    assert differing_settings([one, two]) == {
        str(one): {"network.depth": 30, "training.loss": "L2"},
        str(two): {"network.depth": 60, "training.loss": [{"L1": 1.0}, {"SSIM": 1.0}]},
    }


def test_equal_runs_and_a_single_one_differ_in_nothing(run):
    one, two = run("one"), run("two")
    assert differing_settings([one, two]) == {str(one): {}, str(two): {}}
    assert differing_settings([run("three", depth=2)]) != {}


def test_runs_without_a_config_that_can_be_read_are_left_out(run, tmp_path, caplog):
    (tmp_path / "bare").mkdir()
    broken, one, two = run("broken"), run("one"), run("two", rate=0.001)
    (broken / "config.yaml").write_text("task: [regression")
    with caplog.at_level(logging.WARNING):
        found = differing_settings([tmp_path / "bare", broken, one, two])
    assert found == {
        str(one): {"training.learning_rate": 0.01},
        str(two): {"training.learning_rate": 0.001},
    }
    assert f"{broken}: its config is left out: " in caplog.text


def test_a_legend_tells_a_few_settings(run):
    assert in_words({"network.depth": 30, "training.learning_rate": 1e-3}) == (
        "depth 30, learning_rate 0.001"
    )
    assert in_words(dict.fromkeys("abcd", 1)) == in_words({}) == ""


def test_the_end_of_a_long_path_is_shown():
    assert shown("/data/2026/11/scans/noisy/*.tif") == ".../11/scans/noisy/*.tif"
    assert shown([1, 2]) == "1, 2"

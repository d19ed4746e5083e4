"""Runs that started before a default changed keep what they were started with."""

from msdtool.config import load_saved_config
from msdtool.config.earlier_defaults import as_started
from tests.helpers import parse_config

EXPERIMENT = "task: regression\ndata: {train: {input: a, target: b}}\n"
BEFORE = {"learning_rate": 1e-3, "schedule": "constant", "warmup": 0, "gradient_clip": None}


def values(config):
    return {key: getattr(config.training, key) for key in BEFORE}


def test_a_saved_config_means_what_the_version_that_wrote_it_did(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(EXPERIMENT + "training: {learning_rate: 0.02, schedule: cosine}\n")
    assert values(load_saved_config(path)) == {
        **BEFORE,
        "learning_rate": 0.02,
        "schedule": "cosine",
    }


def test_a_run_with_former_defaults_resumes_with_them():
    saved = parse_config(
        EXPERIMENT + "training: {learning_rate: 1e-3, schedule: constant, warmup: 0, "
        "gradient_clip: null}"
    )
    assert values(as_started(parse_config(EXPERIMENT), saved)) == BEFORE


def test_values_that_the_experiment_names_or_the_run_chose_are_not_replaced():
    saved = parse_config(EXPERIMENT + "training: {learning_rate: 0.003, schedule: constant}")
    named = parse_config(EXPERIMENT + "training: {schedule: plateau}")
    now = values(parse_config(EXPERIMENT))
    assert values(as_started(named, saved)) == {**now, "schedule": "plateau"}


def test_a_segmentation_resumes_with_the_rate_that_it_was_started_with():
    text = "task: segmentation\ndata: {train: {input: a, target: b}, labels: 2}\n"
    config = parse_config(text)
    assert config.training.learning_rate == 1.5e-2
    for rate in ("1.0e-3", "1.0e-2"):
        saved = parse_config(f"{text}training: {{learning_rate: {rate}}}")
        assert as_started(config, saved).training.learning_rate == float(rate)
        named = parse_config(text + "training: {learning_rate: 1.5e-2}")
        assert as_started(named, saved).training.learning_rate == 1.5e-2

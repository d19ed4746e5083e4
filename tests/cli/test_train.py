import json
from pathlib import Path

import pytest
import yaml

from msdtool.runs.checkpoint import load_checkpoint
from tests.helpers import parse_config, write_experiment, write_noisy_pairs

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def config(tmp_path):
    data = {
        "train": write_noisy_pairs(tmp_path / "train", 3, (12, 12)),
        "validation": write_noisy_pairs(tmp_path / "validation", 2, (12, 12), seed=1),
    }
    return write_experiment(tmp_path / "config.yaml", {"data": data})


def test_there_are_configs():
    assert {path.name for path in CONFIGS} >= {"denoise.yaml", "segment.yaml", "volume.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_can_be_tried_dry(cli, path):
    result = cli("train", path, "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert yaml.safe_load(result.out)["training"]["seed"] == 0


def test_a_dry_run_prints_the_resolved_config_and_does_nothing(cli, config, tmp_path):
    before = set(tmp_path.rglob("*"))
    result = cli("train", config, "--set", "training.epochs=7", "--dry-run")
    assert result.code == 0
    resolved = parse_config(result.out)
    assert resolved.training.epochs == 7
    assert resolved.run.directory == str(tmp_path / "run")
    assert yaml.safe_load(result.out)["training"]["learning_rate"] == 0.01
    assert set(tmp_path.rglob("*")) == before


def test_stdout_holds_the_result_and_stderr_the_story(cli, config, tmp_path):
    result = cli("train", config)
    assert result.code == 0
    assert result.out == f"{tmp_path / 'run' / 'checkpoints' / 'best.pt'}\n"
    for part in (
        "measuring 3 training pairs",
        "depth 3, width 1, 1 -> 1 channels, 62 parameters",
        "epoch 1/2, loss ",
        "epoch 2/2, loss ",
        "finished: all 2 epochs are done; best epoch ",
    ):
        assert part in result.err


def test_quiet_says_nothing_but_the_result(cli, config, tmp_path):
    result = cli("train", config, "--quiet", "--run-dir", tmp_path / "elsewhere")
    assert result == (0, f"{tmp_path / 'elsewhere' / 'checkpoints' / 'best.pt'}\n", "")
    assert not (tmp_path / "run").exists()


def test_a_relative_run_dir_counts_from_the_current_folder(cli, config, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert cli("train", config, "--run-dir", "mine", "--quiet").code == 0
    assert (tmp_path / "here" / "mine" / "checkpoints" / "best.pt").exists()


def test_json_reports_where_training_ended(cli, config):
    result = cli("train", config, "--json", "--quiet")
    report = json.loads(result.out)
    progress = load_checkpoint(Path(report["checkpoint"]).with_name("last.pt")).progress
    for key in ("finished", "epoch", "step", "best_epoch", "best_loss"):
        assert report[key] == getattr(progress, key)
    assert (report["epoch"], report["step"]) == (2, 6)
    assert report["metrics"]["epoch"] == 2


def test_a_run_is_replaced_only_when_told(cli, config, tmp_path):
    assert cli("train", config, "--quiet").code == 0
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    result = cli("train", config)
    assert (result.code, result.out) == (2, "")
    assert "already holds a run; resume it, overwrite it, or choose another" in result.err
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before
    result = cli("train", config, "--overwrite", "--quiet", "--set", "training.epochs=1")
    assert result.code == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_resume_and_overwrite_exclude_each_other(cli, config):
    result = cli("train", config, "--resume", "--overwrite")
    assert result == (2, "", "error: --resume and --overwrite: choose one\n")


def test_an_overridden_value_that_is_wrong_is_blamed_on_the_override(cli, config):
    result = cli("train", config, "--set", "training.epochs=none")
    assert result.code == 2
    assert "--set training.epochs=none: training.epochs: got 'none'" in result.err


def test_missing_data_leaves_no_run_directory(cli, config, tmp_path):
    result = cli("train", config, "--set", "data.train.input=nothing/*.tif")
    assert (result.code, result.out) == (3, "")
    assert "nothing/*.tif: no image matches" in result.err
    assert not (tmp_path / "run").exists()

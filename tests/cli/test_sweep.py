"""msdtool sweep."""

import json
import os
import signal

import pytest

from msdtool.cli import training
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from tests.helpers import write_experiment, write_noisy_pairs


@pytest.fixture
def config(tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "train", 2, (12, 12))}
    sections = {"data": data, "training": {"epochs": 2}, "run": {"previews": False}}
    return write_experiment(tmp_path / "config.yaml", sections)


GRID = ("--set", "network.depth=2,3", "--set", "training.seed=1,2")
NAMES = ["depth-2_seed-1", "depth-2_seed-2", "depth-3_seed-1", "depth-3_seed-2"]


def test_each_combination_is_trained_once(cli, config, tmp_path):
    result = cli("sweep", config, *GRID, "-o", tmp_path / "runs")
    assert result.code == 0
    runs = [RunDirectory(tmp_path / "runs" / name) for name in NAMES]
    assert result.out.split() == [str(run.best) for run in runs]
    assert [load_checkpoint(run.best).model.architecture.depth for run in runs] == [2, 2, 3, 3]
    before = [run.last.stat().st_mtime_ns for run in runs]
    again = cli("sweep", config, *GRID, "-o", tmp_path / "runs", "--json")
    assert json.loads(again.out) == result.out.split()
    assert [run.last.stat().st_mtime_ns for run in runs] == before


def test_a_report_tells_the_spread_over_seeds(cli, config, tmp_path):
    cli("sweep", config, *GRID, "-o", tmp_path / "runs", "--quiet")
    runs = sorted((tmp_path / "runs").iterdir())
    found = json.loads(cli("report", *runs, "--json").out)
    losses = [found[str(run)]["train_loss"] for run in runs]
    mean, spread = found[str(runs[1])]["repeats"]["results"]["train_loss"]
    assert mean == pytest.approx((losses[0] + losses[1]) / 2)
    assert spread == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5)
    assert found[str(runs[3])]["repeats"]["runs"] == [str(run) for run in runs[2:]]
    text = cli("report", *runs).out
    table = text.partition("mean and standard deviation over seeds\n")[2].splitlines()
    assert table[0].split()[:2] == ["network.depth", "runs"]
    assert [line.split()[:2] for line in table[1:3]] == [["2", "2"], ["3", "2"]]


def test_a_part_trains_its_share(cli, config, tmp_path):
    options = (*GRID, "-o", tmp_path / "runs", "--dry-run")
    parts = [cli("sweep", config, *options, "--part", i, "--num-parts", 3).out for i in range(3)]
    found = [path.rpartition("/")[2] for part in parts for path in part.split()]
    assert sorted(found) == NAMES
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_does_not_stop_the_others(cli, config, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / NAMES[0]).write_text("a file where a folder should be")
    result = cli("sweep", config, *GRID, "-o", tmp_path / "runs")
    assert result.code == 1
    assert f"{NAMES[0]} failed" in result.err
    assert "1 of 4 runs failed" in result.err
    assert len(result.out.split()) == 3


def test_a_signal_stops_the_sweep_and_the_same_command_continues(
    cli, config, tmp_path, monkeypatch
):
    original, begun = training.console.progress, []

    def progress(title, **options):
        begun.append(title)
        if begun.count("train") == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(title, **options)

    monkeypatch.setattr(training.console, "progress", progress)
    stopped = cli("sweep", config, *GRID, "-o", tmp_path / "runs")
    assert stopped.code == 75
    assert f"run 2 of 4, {NAMES[1]}: stopped" in stopped.err
    assert not (tmp_path / "runs" / NAMES[2]).exists()
    monkeypatch.undo()
    # Bit for bit is what tests of resumed runs check.
    assert cli("sweep", config, *GRID, "-o", tmp_path / "runs").out.count("best.pt") == 4

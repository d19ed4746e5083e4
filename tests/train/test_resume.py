"""A run that is killed or stopped at any moment, and started again, ends like one left alone.

These are real processes, for real signals. What happens between them is logged, so that
a failure shows at which moments the run was hit. `MSDTOOL_KILLS` sets how often a run is killed.
"""

import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from tests import forked
from tests.helpers import write_experiment, write_noisy_pairs
from tests.train.running import plain_rows

EPOCHS = 10
KILLS = int(os.environ.get("MSDTOOL_KILLS", "1"))
PATIENCE_SECONDS = 600.0
"""Far more than anything here takes: what is not done by then hangs."""

log = logging.getLogger(__name__)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


class Training(forked.Program):
    """``msdtool train --resume`` in a process group of its own."""

    def __init__(self, config: Path, run: Path, workers: int) -> None:
        self.run_directory = RunDirectory(run)
        options = ["--resume", "--run-dir", run, "--set", f"data.workers={workers}"]
        super().__init__("train", config, *options, output=run.with_name(f"{run.name}.out"))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to happen in the run, which must not end before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.is_alive(), f"ended too early:\n{self.output.read_text()}"
            assert time.monotonic() < deadline, f"hangs:\n{self.output.read_text()}"
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> int:
        """Signal the whole group, as a terminal or a batch system does; return the exit code."""
        os.killpg(self.pid, number)
        return self.wait(PATIENCE_SECONDS)

    def left_over(self) -> list[str]:
        """Processes of the group that are alive."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue  # it has just ended
            if int(group) == self.pid and state != "Z":
                found.append(stat.parent.name)
        return found

    def check_that_workers_end(self) -> None:
        """A worker looks for its parent every 5 seconds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left := self.left_over():
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.1)

    def epochs_done(self) -> int:
        """Finished epochs."""
        metrics = self.run_directory.metrics
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


class Story(NamedTuple):
    """What came of a run: its folder and its processes, with their exit codes."""

    run: Path
    processes: list[Training]

    @property
    def codes(self) -> list[int]:
        return [training.exitcode for training in self.processes]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that could go out of step: crops, deformations, accumulation, a schedule."""
    folder = tmp_path_factory.mktemp("resume")
    data = {
        "train": write_noisy_pairs(folder / "train", 11, (14, 17)),
        "validation": write_noisy_pairs(folder / "validation", 2, (12, 13), seed=1),
        "crop": 12,
        "augment": True,
        "geometry": {
            "rotation": [-20, 20],
            "scale": [0.9, 1.1],
            "elastic": [0, 1],
            "elastic_sigma": 3.0,
        },
        "intensity": {"gain": [0.9, 1.1], "gaussian_noise": [0, 0.1]},
        "cut_out": [0, 0.3],
    }
    training = {
        "epochs": EPOCHS,
        "loss": [
            {"L2": 1},
            {"MS-SSIM": 0.1},
            {"edge": 0.1},
            {"FFT": 0.1},
            {"TV": 0.01},
            {"top_k": 0.1},
        ],
        "ms_ssim_scales": 1,
        "batch_size": 2,
        "accumulate": 2,
        "schedule": "cosine",
        "warmup": 3,
        "average": 0.9,
        "learning_rate": 0.01,
        "gradient_clip": 1.0,
        "validate_every": 2,
        "checkpoint_every": 0.02,
        "seed": 5,
    }
    return write_experiment(folder / "config.yaml", {"data": data, "training": training})


def left_alone(config: Path, run: Path) -> Story:
    training = Training(config, run, workers=2)
    training.wait(PATIENCE_SECONDS)
    return Story(run, [training])


def killed(config: Path, run: Path, workers: int) -> Story:
    """Kill a run at random moments of epochs spread over it, then let it finish."""
    rng = random.Random(workers)
    story = Story(run, [])
    for number in range(KILLS):
        epochs = EPOCHS * (2 * number + 1) // (2 * KILLS) + rng.choice([-1, 0, 1])
        delay = rng.uniform(0, 0.06)
        training = Training(config, run, workers)
        training.wait_until(lambda epochs=epochs, it=training: it.epochs_done() >= epochs)
        time.sleep(delay)
        training.kill()  # alone; its workers have to notice by themselves
        training.wait(PATIENCE_SECONDS)
        log.info("%s: killed %.3f s after epoch %d", run.name, delay, epochs)
        story.processes.append(training)
    last = Training(config, run, workers)
    last.wait(PATIENCE_SECONDS)
    story.processes.append(last)
    return story


def signalled(config: Path, run: Path) -> Story:
    """Stop a run by each signal that it understands, then let it finish."""
    rng = random.Random(0)
    story = Story(run, [])
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        delay = rng.uniform(0, 0.04)
        training = Training(config, run, workers=2)
        epochs = training.epochs_done() + 2
        training.wait_until(lambda epochs=epochs, it=training: it.epochs_done() >= epochs)
        time.sleep(delay)
        training.send(number)
        log.info("%s: %s %.3f s after epoch %d", run.name, number.name, delay, epochs)
        story.processes.append(training)
    last = Training(config, run, workers=2)
    last.wait(PATIENCE_SECONDS)
    story.processes.append(last)
    return story


@pytest.fixture(scope="module")
def stories(config: Path) -> dict[str, Story]:
    """All runs, side by side."""
    folder = config.parent
    with ThreadPoolExecutor(3) as pool:
        started = {
            "killed, 2 workers": pool.submit(killed, config, folder / "killed2", 2),
            "killed, 0 workers": pool.submit(killed, config, folder / "killed0", 0),
            "signalled": pool.submit(signalled, config, folder / "signalled"),
            "left alone": pool.submit(left_alone, config, folder / "alone"),
        }
        return {name: future.result() for name, future in started.items()}


def rows(run: Path) -> list[dict[str, Any]]:
    return plain_rows(RunDirectory(run))


def outcome(path: Path) -> dict[str, Any]:
    """All that a checkpoint holds, as flat names and values, but for times and memory."""
    flat: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{name}.{key}", item)
        elif not name.endswith(("seconds", "_bytes", ".directory", ".workers")):
            flat[name] = value

    add("", load_checkpoint(path).to_dict())
    return flat


def check_same(run: Path, other: Path) -> None:
    for name in ("checkpoints/last.pt", "checkpoints/best.pt"):
        found, expected = outcome(run / name), outcome(other / name)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(found[key], value), f"{name}: {key}"
            else:
                assert found[key] == value, f"{name}: {key}"
    assert rows(run) == rows(other)


def test_the_run_left_alone_did_what_is_compared(stories):
    story = stories["left alone"]
    assert story.codes == [0]
    last = outcome(story.run / "checkpoints" / "last.pt")
    assert last[".progress.epoch"] == EPOCHS
    assert last[".progress.step"] == 3 * EPOCHS  # 11 pairs, 6 batches, groups of 2
    assert last[".model.state.msd.msd_block.weight0"].any()
    assert any(name.endswith("exp_avg") for name in last)
    found = rows(story.run)
    assert [row["epoch"] for row in found] == list(range(1, EPOCHS + 1))
    assert [row["validation_loss"] is not None for row in found] == [False, True] * (EPOCHS // 2)
    assert found[-1]["train_loss"] < found[0]["train_loss"]


@pytest.mark.parametrize("name", ["killed, 2 workers", "killed, 0 workers"])
def test_a_killed_run_ends_with_the_same_bits(stories, name):
    story = stories[name]
    assert story.codes == [-signal.SIGKILL] * (len(story.codes) - 1) + [0]
    check_same(story.run, stories["left alone"].run)


def test_a_run_stopped_by_signals_says_so_and_ends_with_the_same_bits(stories):
    story = stories["signalled"]
    assert story.codes == [75, 75, 130, 0]
    output = story.processes[0].output.read_text()
    assert output.count("checkpoint saved, resume to continue (--resume)") == 3
    check_same(story.run, stories["left alone"].run)


def test_nobody_ever_sees_a_traceback(stories):
    for story in stories.values():
        assert "Traceback" not in story.processes[0].output.read_text()


def test_no_worker_outlives_its_run_for_long(stories):
    for story in stories.values():
        for training in story.processes:
            training.check_that_workers_end()


def test_no_temporary_file_is_left_behind(stories):
    for story in stories.values():
        assert not [path.name for path in story.run.rglob(".*")]


def test_a_finished_run_says_so(stories, config, cli):
    run = stories["left alone"].run
    before = (run / "checkpoints" / "last.pt").read_bytes()
    result = cli("train", config, "--resume", "--run-dir", run, "--set", "data.workers=2")
    assert result.code == 0
    assert f"nothing to do, the run is finished: all {EPOCHS} epochs are done" in result.err
    assert result.out == f"{run / 'checkpoints' / 'best.pt'}\n"
    assert (run / "checkpoints" / "last.pt").read_bytes() == before
    assert len(rows(run)) == EPOCHS


def many(pairs: dict[str, str], count: int) -> dict[str, list[str]]:
    """The first pair over and over: a long data set from two files."""
    return {key: [f"{folder}/image_000.tif"] * count for key, folder in pairs.items()}


def test_a_signal_during_validation_saves_and_the_validation_is_done_again(tmp_path, cli):
    pairs = write_noisy_pairs(tmp_path / "data", 1)
    config = write_experiment(
        tmp_path / "config.yaml",
        {
            "data": {"train": pairs, "validation": many(pairs, 80)},
            "training": {"epochs": 1, "checkpoint_every": 0.05},
        },
    )
    training = Training(config, tmp_path / "run", workers=0)
    last = training.run_directory.last

    def steps() -> int:
        return int(load_checkpoint(last).progress.step) if last.exists() else 0

    training.wait_until(lambda: steps() == 1)
    assert training.send(signal.SIGTERM) == 75
    progress = load_checkpoint(last).progress
    assert (progress.step, progress.epoch, progress.finished) == (1, 0, "")
    assert "stopped at step 1, epoch 1; checkpoint saved" in training.output.read_text()
    training.check_that_workers_end()
    result = cli("train", config, "--resume", "--json", "--quiet")
    assert result.code == 0
    report = json.loads(result.out)
    assert (report["step"], report["epoch"]) == (1, 1)
    assert len(rows(tmp_path / "run")) == 1


def test_a_signal_before_the_first_step_stops_and_resume_starts(tmp_path, cli):
    pairs = write_noisy_pairs(tmp_path / "data", 1)
    config = write_experiment(
        tmp_path / "config.yaml",
        {"data": {"train": many(pairs, 1500)}, "training": {"epochs": 1}},
    )
    training = Training(config, tmp_path / "run", workers=2)
    training.wait_until(lambda: "measuring 1500 training pairs" in training.output.read_text())
    assert training.send(signal.SIGTERM) == 75
    output = training.output.read_text()
    assert "stopped before the first step; nothing is lost, start again" in output
    assert "Traceback" not in output
    assert not training.run_directory.last.exists()
    # Nothing was computed, so the data may still change: fewer images make this test faster.
    fewer = [f"data.train.{key}={folder}" for key, folder in pairs.items()]
    result = cli("train", config, "--resume", "--quiet", "--set", fewer[0], "--set", fewer[1])
    assert (result.code, result.err) == (0, "")
    assert load_checkpoint(training.run_directory.last).progress.step == 1

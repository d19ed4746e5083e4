"""Launchers: what they tell a process, and runs that they start, kill and start again.

The runs are real processes, for real signals.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msdtool.errors import ConfigError
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.processes import Launch, find_launch
from tests.forked import Program
from tests.helpers import write_experiment, write_noisy_pairs
from tests.train.running import check_same
from tests.train.test_distributed_runs import train_run

EPOCHS = 16
PATIENCE_SECONDS = 600.0

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}
SRUN = {
    "SLURM_PROCID": "1",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_LOCALID": "0",
    "SLURM_JOB_ID": "12345",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, Launch(3, 4, 1, "env://")),
        (TORCHRUN | {"WORLD_SIZE": "1"}, None),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}, Launch(3, 4, 1, "env://", "2")),
        (
            TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2", "GROUP_WORLD_SIZE": "2"},
            Launch(3, 4, 1, "env://"),
        ),
        (SRUN, Launch(1, 2, 0, "tcp://127.0.0.1:20345")),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        (SRUN | {"MASTER_ADDR": "n7", "MASTER_PORT": "9"}, Launch(1, 2, 0, "tcp://n7:9")),
        (SRUN | TORCHRUN, Launch(3, 4, 1, "env://")),  # srun starts torchrun
        # A batch script itself, and a job of one task.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "1"}, None),
    ],
)
def test_what_launchers_say(environment, expected):
    assert find_launch(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (TORCHRUN | {"LOCAL_RANK": "x"}, "LOCAL_RANK: got 'x', expected a number; start several"),
        (SRUN | {"SLURM_STEP_NUM_NODES": "2"}, "MASTER_ADDR is not set, so the processes"),
        (SRUN | {"SLURM_PROCID": ""}, "SLURM_PROCID: got '', expected a number"),
        (TORCHRUN | {"RANK": "4"}, "RANK: got 4, but WORLD_SIZE is 4; ranks count from 0"),
        (TORCHRUN | {"WORLD_SIZE": "9" * 12}, f"WORLD_SIZE: got '{'9' * 12}', expected a number"),
        (TORCHRUN | {"MASTER_PORT": "x"}, "MASTER_PORT: got 'x', expected a number"),
        (TORCHRUN | {"MASTER_PORT": "65536"}, "MASTER_PORT: got 65536, expected a number below"),
    ],
)
def test_what_is_missing_is_named(environment, message):
    with pytest.raises(ConfigError) as error:
        find_launch(environment)
    assert error.value.message.startswith(message)


# Real runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Crops, deformations, accumulation, a schedule, and a last batch too small to share."""
    folder = tmp_path_factory.mktemp("launched")
    data = {
        "train": write_noisy_pairs(folder / "train", 7, (14, 17)),
        "validation": write_noisy_pairs(folder / "validation", 3, (12, 13), seed=1),
        "crop": 12,
        "augment": True,
        "geometry": {"rotation": [-20, 20], "elastic": [0, 1]},
        "cut_out": [0, 0.3],
    }
    training = {
        "epochs": EPOCHS,
        "batch_size": 3,
        "accumulate": 2,
        "loss": [{"L2": 1}, {"edge": 0.1}, {"top_k": 0.1}],
        "schedule": "cosine",
        "learning_rate": 0.01,
        "checkpoint_every": 0.02,
    }
    return write_experiment(folder / "config.yaml", {"data": data, "training": training})


@pytest.fixture(scope="module")
def left_alone(config, team):
    """The directory of a run of two processes that nothing happened to."""
    directory = config.parent / "alone"
    answers = team(train_run, config, [f"run.directory={directory}", "data.workers=0"])
    assert answers == [2 * EPOCHS] * 2  # 3 batches, groups of 2
    return RunDirectory(directory)


def resuming(config, run, workers):
    """The command that starts or resumes a run."""
    options = ("--resume", "--run-dir", run, "--set", f"data.workers={workers}")
    return ("train", config, *options)


def start_tasks(config, run, job):
    """Start two processes as srun does."""
    common = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": str(job)}
    return [
        Program(
            *resuming(config, run, workers=0),
            output=run.with_name(f"{run.name}.out"),
            **common,
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
        )
        for rank in range(2)
    ]


def wait_for_epoch(run, epoch, exit_code):
    """Wait until an epoch of a run is done, as long as there is no exit code."""
    metrics, deadline = RunDirectory(run).metrics, time.monotonic() + PATIENCE_SECONDS
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < epoch:
        said = run.with_name(f"{run.name}.out").read_text
        assert exit_code() is None, f"ended too early:\n{said()}"
        assert time.monotonic() < deadline, f"hangs:\n{said()}"
        time.sleep(0.002)


def test_a_task_that_is_killed_ends_all_and_they_go_on_to_the_same_bits(config, left_alone):
    """As srun starts them. What signals do, the tests of the batch scripts show."""
    run, job = config.parent / "tasks", os.getpid()
    first = start_tasks(config, run, job)
    wait_for_epoch(run, 6, lambda: first[0].exitcode)
    first[1].kill()
    assert [process.wait(PATIENCE_SECONDS) for process in first] == [1, -signal.SIGKILL]

    second = start_tasks(config, run, job + 1)
    assert [process.wait(PATIENCE_SECONDS) for process in second] == [0, 0]
    check_same(RunDirectory(run), left_alone)
    said = run.with_name("tasks.out").read_text()
    assert said.count("error: another worker died or hangs (") == 1
    assert said.count(f"{run}/checkpoints/best.pt\n") == 1
    assert "Traceback" not in said


def children(pid):
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid):
    """The processes that a process has started, and those that they have."""
    try:
        return [found for child in children(pid) for found in [child, *descendants(child)]]
    except FileNotFoundError:
        return []  # it has just ended


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_torchrun_starts_killed_processes_again_and_they_end_with_the_same_bits(config, left_alone):
    run, rng = config.parent / "torchrun", random.Random(3)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command = [sys.executable, "-m", *launcher, "-m", "msdtool", *resuming(config, run, workers=1)]
    with run.with_name(f"{run.name}.out").open("ab") as out:
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    wait_for_epoch(run, 6, process.poll)
    time.sleep(rng.uniform(0, 0.05))
    victim = rng.choice(children(process.pid))
    family = descendants(victim)
    assert len(family) >= 2  # a server and a process that reads images at least
    os.kill(victim, signal.SIGKILL)
    assert process.wait(PATIENCE_SECONDS) == 0
    check_same(RunDirectory(run), left_alone)
    said = run.with_name("torchrun.out").read_text()
    assert said.count(f"{run}/checkpoints/best.pt\n") == 1
    assert load_checkpoint(RunDirectory(run).last).progress.epoch == EPOCHS
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"they outlive the one that was killed: {left}"
        time.sleep(0.1)

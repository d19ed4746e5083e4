"""The batch scripts that ship with the program, run with stand-ins for SLURM's commands."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msdtool.resources import resource_folder
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train.processes import Launch, find_launch
from tests.helpers import write_experiment, write_noisy_pairs

SCRIPTS = sorted(resource_folder("configs").rglob("*.sbatch"))
PATIENCE_SECONDS = 600.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs bash and /proc")

# Starts the command once per task, with the variables that srun sets; ends with the highest code.
SRUN = """
import os, signal, subprocess, sys
options = sys.argv[1 : sys.argv.index("msdtool")]
size = 1 if "--ntasks=1" in options else int(os.environ["SLURM_NTASKS"])
print("srun", *options, file=open(os.environ["LOG"], "a"))
nodes = int(os.environ["SLURM_NNODES"])
tasks = [
    subprocess.Popen(
        sys.argv[sys.argv.index("msdtool"):],
        env={
            **os.environ, "SLURM_STEP_NUM_TASKS": str(size), "SLURM_STEP_NUM_NODES": str(nodes),
            "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % (size // nodes or 1)),
        },
    )
    for rank in range(size)
]
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""

SCONTROL = """
import os, sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print("127.0.0.1\\nother")
else:
    print("scontrol", *sys.argv[1:], file=open(os.environ["LOG"], "a"))
"""

# Writes what it was called with instead of working.
RECORDER = """
import json, os, sys
variables = {k: v for k, v in os.environ.items() if k.startswith(("SLURM_", "MASTER_"))}
with open(f"{os.environ['LOG']}.{os.environ['SLURM_PROCID']}.json", "w") as file:
    json.dump([sys.argv[1:], variables], file)
sys.exit(int(os.environ.get("EXIT", 0)))
"""


# As pip writes it, but that no processes are started to read images; torch's compiler would take
# seconds to import, in every process.
PROGRAM = """
import sys
from msdtool.cli import main
sys.argv += ["--set", "data.workers=0"]
try:
    sys.exit(main())
finally:
    assert "torch._dynamo" not in sys.modules
"""


class Slurm:
    """A folder of stand-ins, and what became of the jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.write("srun", SRUN)
        self.write("scontrol", SCONTROL)
        self.write("msdtool", RECORDER)

    def write(self, name: str, source: str) -> None:
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!{sys.executable}\n{source}")
        file.chmod(0o755)

    def submit(self, script: str, *arguments: object, **variables: object) -> subprocess.Popen:
        """Run a script the way a batch job is."""
        path = resource_folder("configs") / "slurm" / script
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "LOG": str(self.log),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_NTASKS": "2",
            "SLURM_NNODES": "1",
            "SLURM_CPUS_PER_TASK": "6",
            **{name: str(value) for name, value in variables.items()},
        }
        return subprocess.Popen(
            ["bash", "-u", path, *map(str, arguments)],
            cwd=self.folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, *arguments: object, **variables: object) -> tuple[int, str]:
        """Run a script to its end; return its exit code and stderr."""
        process = self.submit(script, *arguments, **variables)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, said

    def calls(self) -> list[tuple[list[str], Launch | None, dict[str, str]]]:
        """What each task of the recorded command was called with."""
        found = []
        for file in sorted(self.folder.glob("log.*.json")):
            arguments, variables = json.loads(file.read_text())
            found.append((arguments, find_launch(variables), variables))
        return found


@pytest.fixture
def slurm(tmp_path):
    return Slurm(tmp_path)


def options(script):
    """The #SBATCH options of a script, without their comments."""
    lines = (resource_folder("configs") / "slurm" / script).read_text().splitlines()
    words = [shlex.split(line[8:], comments=True) for line in lines if line.startswith("#SBATCH ")]
    return dict(word.lstrip("-").partition("=")[::2] for line in words for word in line)


def test_there_are_scripts():
    assert [path.name for path in SCRIPTS] == ["node.sbatch", "nodes.sbatch", "predict.sbatch"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_right_bash_and_are_requeued_in_time(path):
    subprocess.run(["bash", "-n", path], check=True)
    found = options(path.name)
    assert found["signal"].startswith("USR1@")
    assert "requeue" in found
    assert found["open-mode"] == "append"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_need_their_arguments(slurm, path):
    code, said = slurm.run(path.name)
    assert code in (1, 127)
    assert "name the" in said
    assert not slurm.calls()


def test_one_machine_gets_a_task_per_gpu(slurm):
    found = options("node.sbatch")
    assert found["nodes"] == "1"
    assert found["ntasks-per-node"] == found["gpus-per-node"]
    assert slurm.run("node.sbatch", "a.yaml") == (0, "")
    calls = slurm.calls()
    assert [call[0] for call in calls] == [
        ["train", "a.yaml", "--resume", "--set", "data.workers=4"]
    ] * 2
    port = 20000 + os.getpid() % 12000
    meeting = f"tcp://127.0.0.1:{port}"
    assert [call[1] for call in calls] == [Launch(0, 2, 0, meeting), Launch(1, 2, 1, meeting)]
    assert slurm.log.read_text() == "srun --cpus-per-task=6 --wait=60 --kill-on-bad-exit=0\n"


def test_several_machines_meet_at_the_first(slurm):
    found = options("nodes.sbatch")
    assert int(found["nodes"]) > 1
    code, _ = slurm.run("nodes.sbatch", "a.yaml", SLURM_NNODES=2, MASTER_PORT=29500)
    assert code == 0
    launches = [call[1] for call in slurm.calls()]
    assert launches == [Launch(rank, 2, 0, "tcp://127.0.0.1:29500") for rank in range(2)]


@pytest.mark.parametrize("script", ["node.sbatch", "nodes.sbatch", "predict.sbatch"])
@pytest.mark.parametrize(("code", "is_requeued"), [(75, True), (0, False), (1, False), (3, False)])
def test_a_job_is_requeued_when_its_time_was_up_and_only_then(slurm, script, code, is_requeued):
    assert slurm.run(script, "a", "b", "c", EXIT=code)[0] == code
    requeue = f"scontrol requeue {os.getpid()}\n"
    assert (requeue in slurm.log.read_text()) == is_requeued


def test_a_task_of_an_array_predicts_its_part(slurm, cli, regression_run, tmp_path, monkeypatch):
    noisy = write_noisy_pairs(tmp_path / "data", 5)["input"]
    results = []
    for task in (1, 0):
        array = {"ID": task, "COUNT": 2, "MIN": 0, "MAX": 1, "STEP": 1}
        variables = {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}
        arguments = (regression_run, f"{noisy}/*.tif", tmp_path / "cleaned")
        assert slurm.run("predict.sbatch", *arguments, **variables) == (0, "")
        ((command, launch, found),) = slurm.calls()
        assert launch is None
        for name in variables:
            monkeypatch.setenv(name, found[name])
        results.append(cli(*command))
    assert [result.code for result in results] == [0, 0]
    assert "3 of 5 are still missing" in results[0].err
    assert "all are complete" in results[1].err
    assert cli("predict", *command[1:5], "--missing").code == 0


def test_training_is_signalled_and_requeued_until_it_is_done(slurm, tmp_path):
    """With the program itself, in two processes."""
    slurm.write("msdtool", PROGRAM)
    data = {"train": write_noisy_pairs(tmp_path / "train", 4, (12, 12))}
    training = {"epochs": 40, "batch_size": 2, "checkpoint_every": 0.05}
    config = write_experiment(
        tmp_path / "config.yaml", {"data": data, "training": training, "run": {"directory": "run"}}
    )
    run = RunDirectory(tmp_path / "run")
    job = slurm.submit("node.sbatch", config, PYTHONPATH=os.pathsep.join(sys.path))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not run.metrics.exists():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    signal_step(job.pid)
    _, said = job.communicate(timeout=PATIENCE_SECONDS)
    assert job.returncode == 75, said
    assert f"scontrol requeue {os.getpid()}" in slurm.log.read_text()
    assert 0 < load_checkpoint(run.last).progress.epoch < 40
    code, said = slurm.run(
        "node.sbatch", config, PYTHONPATH=os.pathsep.join(sys.path), SLURM_JOB_ID=os.getpid() + 1
    )
    assert code == 0, said
    assert load_checkpoint(run.last).progress.epoch == 40


def signal_step(pid: int) -> None:
    """Signal the job's steps, as `#SBATCH --signal` does, and not the script."""
    step = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    os.kill(int(step), signal.SIGUSR1)

"""The batch scripts for LSF, PBS and Grid Engine, run with stand-ins for the program and qsub."""

import os
import re
import subprocess
import sys

import pytest

from msdtool.resources import resource_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs bash and timeout")

SCRIPTS = ["lsf/train.lsf", "pbs/train.pbs", "sge/train.sge"]
STOPPED = {"lsf": 75, "pbs": 75, "sge": 99}
"""The codes with which a scheduler, or the script itself, starts the job again."""

# Waits for a signal, as training does, if it is to be stopped.
PROGRAM = """#!/bin/bash
echo "msdtool $*" >> "$LOG"
trap 'exit 75' USR1
[ "$EXIT" = wait ] && while true; do sleep 0.02; done
exit "$EXIT"
"""
QSUB = """#!/bin/bash
echo "qsub $*" >> "$LOG"
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, text in (("msdtool", PROGRAM), ("qsub", QSUB)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def script(path, code, **variables):
        log = tmp_path / "log"
        arguments = ["denoise.yaml"] if path.startswith("sge") else []
        done = subprocess.run(
            ["bash", "-u", resource_folder("configs") / path, *arguments],
            cwd=tmp_path,
            env={
                **os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log),
                "EXIT": str(code), "PBS_O_WORKDIR": str(tmp_path), "CONFIG": "denoise.yaml",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )  # fmt: skip
        return done.returncode, log.read_text().splitlines() if log.exists() else [], done.stderr

    return script


@pytest.mark.parametrize("path", SCRIPTS)
@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_job_ends_with_the_programs_code(run, path, code):
    found, log, _ = run(path, code)
    assert found == code
    assert log == ["msdtool train denoise.yaml --resume --set data.workers=2"]


@pytest.mark.parametrize("path", SCRIPTS)
def test_a_job_whose_time_is_up_is_started_again(run, path):
    found, log, _ = run(path, "wait", SECONDS_OF_WORK="0.5")
    assert found == STOPPED[path.split("/")[0]]
    again = "qsub -v CONFIG=denoise.yaml,SCRIPT=train.pbs train.pbs"
    assert log[1:] == ([again] if path.startswith("pbs") else [])


def test_lsf_is_told_which_code_starts_a_job_again():
    text = (resource_folder("configs") / "lsf/train.lsf").read_text()
    assert re.search(r"^#BSUB -Q 75\b", text, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS)
def test_work_ends_before_the_time_of_the_job(path):
    text = (resource_folder("configs") / path).read_text()
    (work,) = re.findall(r"SECONDS_OF_WORK:-(\d+)\}", text)
    (hours,) = re.findall(r"(?:-W |walltime=|h_rt=)(\d+):", text)
    assert 60 < 3600 * int(hours) - int(work) < 1000


def test_a_config_must_be_named(run):
    code, log, said = run("pbs/train.pbs", 0, CONFIG="")
    assert (code, log) == (1, [])
    assert "name the config" in said

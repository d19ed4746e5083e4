"""Damaged files of every kind: one clear error or values, in bounded time and memory.

`MSDTOOL_MUTANTS` sets how many of each kind are tried.
"""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("zarr", "3")
if not hasattr(os, "fork"):
    pytest.skip("processes cannot be forked", allow_module_level=True)

from tests.faults.specimens import KINDS

MUTANTS = int(os.environ.get("MSDTOOL_MUTANTS", "2"))


@pytest.fixture(scope="module")
def program():
    """Runs the mutants of one kind after the other."""
    command = [sys.executable, "-m", "tests.faults.mutants"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Threads would not survive the fork.
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_an_error_or_has_values(program, regression_run, tmp_path, kind):
    options = {
        "place": str(tmp_path / "mutants"),
        "model": str(regression_run),
        "kind": kind,
        "seeds": [1, 1 + MUTANTS],
    }
    program.stdin.write(json.dumps(options) + "\n")
    program.stdin.flush()
    found = json.loads(program.stdout.readline())
    assert not found["findings"], "\n".join(found["findings"])
    # A program that refuses everything would pass, too.
    # The network takes one channel.
    is_refused = kind.startswith(("animation", "colour", "alpha", "palette"))
    assert found["codes"]["sound 3" if is_refused else "sound 0"] == 1

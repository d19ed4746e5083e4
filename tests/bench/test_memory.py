import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from msdtool import ops
from msdtool.bench import memory
from msdtool.bench.cases import Case
from msdtool.bench.memory import peak_growth
from msdtool.ops.cpu import buffers as ops_memory
from msdtool.ops.cpu.buffers import LEAST_BYTES, new_buffer, release_spare

CPU = torch.device("cpu")
MB = 2**20


@pytest.mark.skipif(os.name == "nt", reason="nothing to read it from")
def test_a_step_is_seen_to_take_its_buffers_and_not_what_this_process_holds():
    ballast = np.ones(100 * MB)  # a child inherits the peak of its parent in ru_maxrss
    case = Case((512, 512), depth=23)
    growth = peak_growth(case, ops.msd_module, CPU)
    assert growth is not None
    forward, step = growth
    assert case.buffer_bytes <= forward <= case.buffer_bytes + 100 * MB
    assert 2 * case.buffer_bytes <= step <= 2 * case.buffer_bytes + 100 * MB
    assert ballast.nbytes > step


def test_growth_counts_from_after_the_tensors_are_made(monkeypatch):
    # The counter of a process that only ever grows, by one with each call of the network.
    used = {"bytes": 1000}

    def module(*arguments):
        used["bytes"] += 1
        return ops.msd_module(*arguments)

    monkeypatch.setattr(memory, "_peak", lambda: used["bytes"])
    monkeypatch.setattr(memory, "_status", lambda name: used["bytes"])
    # Two calls with a tiny network come first and do not count.
    case = Case((16, 16), depth=2)
    assert memory._growth_here(case, module, torch.get_num_threads()) == (1, 2)
    assert used["bytes"] == 1004


def test_windows_has_no_figure(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    assert peak_growth(Case((16, 16), depth=2), ops.msd_module, CPU) is None


@pytest.mark.skipif(not Path("/proc").exists(), reason="nothing to look a process up in")
def test_the_process_that_measures_ends_with_the_one_that_waits(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from msdtool.bench import memory\n"
        "import tests.bench.test_memory as here\n"
        "if __name__ == '__main__': memory._in_own_process(here.tell_and_wait, sys.argv[1])"
    )
    told = tmp_path / "pid"
    waiting = subprocess.Popen([sys.executable, "-c", code, str(told)])
    deadline = time.monotonic() + 600
    while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    measuring = int(told.read_text())
    waiting.kill()
    waiting.wait()
    while is_running(measuring) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(measuring)


def tell_and_wait(file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(600)


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_spare_here_is_given_back_before(monkeypatch):
    release_spare()
    new_buffer(LEAST_BYTES, like=torch.empty(0))
    assert len(ops_memory._spare) == 1
    assert memory._in_own_process(abs, -3) == 3
    assert ops_memory._spare == []

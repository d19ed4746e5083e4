import os

import numpy as np
import pytest
import torch

from msdtool import ops
from msdtool.bench import memory
from msdtool.bench.cases import Case
from msdtool.bench.memory import peak_growth

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


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_without_proc_the_peak_is_that_of_getrusage(monkeypatch, tmp_path, platform, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "missing")
    monkeypatch.setattr("sys.platform", platform)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert memory._peak() >= unit * most
    assert memory._peak() < 2 * unit * most


def test_windows_has_no_figure(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    assert peak_growth(Case((16, 16), depth=2), ops.msd_module, CPU) is None

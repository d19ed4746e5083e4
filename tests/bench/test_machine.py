import json
from datetime import datetime

import pytest
import torch

from msdtool.bench import machine
from msdtool.bench.timing import TimeitResult
from msdtool.system_memory import SystemMemory

CPU = torch.device("cpu")


def test_the_facts_are_plain_data():
    facts = machine.machine_facts(CPU)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["threads"] == torch.get_num_threads()
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["device"].startswith("cpu")
    assert facts["engine"] in ("compiled", "torch")
    assert facts["cpu"]
    assert datetime.fromisoformat(facts["date"]).tzinfo is not None


def test_machines_without_proc_have_facts_too(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "Path", lambda _path: tmp_path / "missing")
    monkeypatch.setattr(machine, "system_memory", lambda: SystemMemory(None, None, None))
    facts = machine.machine_facts(CPU)
    assert facts["memory_bytes"] is None
    assert isinstance(facts["cpu"], str)
    assert machine.available_bytes(CPU) is None


def test_the_memory_is_that_of_the_machine_and_what_is_left_of_it(monkeypatch):
    monkeypatch.setattr(machine, "system_memory", lambda: SystemMemory(2**31, 2**20, 1))
    assert machine.machine_facts(CPU)["memory_bytes"] == 2**31
    assert machine.available_bytes(CPU) == 2**20


def test_the_peak_is_that_of_the_best_product(monkeypatch):
    calls = []

    def fake_bench(name, function, **_options):
        function()
        calls.append(name)
        return TimeitResult(name, 1, 2, best=0.5, worst=2.0, all_runs=[0.5, 2.0])

    monkeypatch.setattr(machine, "bench", fake_bench)
    monkeypatch.setattr(machine, "GEMM_SIZES", {"cpu": 8})
    assert machine.sgemm_peak(CPU) == pytest.approx(2 * 8**3 / 0.5)
    assert calls == ["sgemm"]


def test_only_gpus_are_waited_for():
    assert machine.synchronizer(CPU) is None
    assert callable(machine.synchronizer(torch.device("cuda")))


def test_a_gpus_figures_come_with_the_versions_of_its_software(monkeypatch):
    gpu = torch.device("cuda", 0)
    found = {"CuPy": "14.2.0", "NVRTC": "13.0", "cache": "/somewhere"}
    monkeypatch.setattr(machine.installation, "versions", lambda: found)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(machine.launcher, "obstacle", lambda device: None)
    assert machine._cuda_versions(gpu) == {"CUDA": "13.0", "CuPy": "14.2.0", "NVRTC": "13.0"}
    monkeypatch.setattr(machine.launcher, "obstacle", lambda device: "CuPy is not installed")
    assert machine._cuda_versions(gpu) == {"CUDA": "13.0"}
    assert machine._cuda_versions(CPU) == {}

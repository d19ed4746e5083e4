import json
import sys

import torch

from msdtool.train.environment import environment


def test_an_environment_is_plain_data_and_tells_machine_and_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["msdtool", "train", "x.yaml"])
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = json.loads(json.dumps(environment(torch.device("cpu"))))
    assert found["command"] == ["msdtool", "train", "x.yaml"]
    assert found["threads"] == torch.get_num_threads()
    assert found["device"].startswith("cpu")
    assert found["engine"] in ("compiled", "torch")
    assert found["variables"]["SLURM_JOB_ID"] == "77"
    assert "CUDA_VISIBLE_DEVICES" not in found["variables"]

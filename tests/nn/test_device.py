import os

import pytest
import torch

from msdtool.errors import ConfigError
from msdtool.nn import MSDModule
from msdtool.nn.device import choose_device, device_name, use_deterministic


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_the_gpu_if_there_is_one(monkeypatch, has_gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_device() == torch.device(expected)
    assert choose_device("cpu") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_an_error_with_a_way_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch finds no GPU on this machine; use auto or cpu"):
        choose_device("cuda")


def test_a_device_is_named_as_people_know_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert device_name(torch.device("cuda")) == "cuda (NVIDIA H200)"
    assert device_name(torch.device("cpu")) == f"cpu ({torch.get_num_threads()} threads)"


@pytest.fixture
def workspace(monkeypatch):
    """Determinism as it was, and no size of cuBLAS's workspace."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield monkeypatch
    torch.use_deterministic_algorithms(False)


def test_determinism_comes_with_the_workspace_that_products_need(workspace):
    use_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    use_deterministic(True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_workspace_of_the_users_own_stays(workspace):
    workspace.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    use_deterministic(True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.gpu
def test_a_step_of_a_network_is_not_refused(workspace):
    use_deterministic(True)
    network = MSDModule(1, 1, depth=12, width=1).cuda()
    network(torch.randn(1, 1, 40, 40, device="cuda")).square().mean().backward()

import pytest
import torch

from msdtool.errors import ConfigError
from msdtool.nn.device import choose_device, device_name


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

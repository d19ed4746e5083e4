"""The self-test passes on right kernels and sees wrong ones."""

import pytest
import torch

from msdtool.doctor import kernels
from msdtool.ops.cuda import launcher

CPU = torch.device("cpu")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        kernels,
        "STORAGES",
        {torch.float64: "float64", torch.float32: "float32", torch.bfloat16: "bfloat16"},
    )
    monkeypatch.setattr(kernels, "SPACES", ((11, 13),))
    monkeypatch.setattr(kernels, "PADDINGS", ("symmetric", "zeros"))


def test_every_kernel_is_checked_where_kernels_run(few, shim):
    checks = list(kernels.check_all(CPU))
    assert all(check.passed for check in checks)
    assert len(checks) == 3 * 6 + 2 + 12 + 2 * 10
    functions = {function for _, function in shim.launched}
    assert functions == {
        "taps_gather", "taps_spread", "inner_forward", "inner_backward", "convolution_forward",
        "convolution_backward_input", "convolution_backward_weight", "front_forward", "pack",
        "back_input", "back_weight", "unpack",
        "semifield_forward", "semifield_backward_img", "semifield_backward_kernel",
    }  # fmt: skip


def test_without_kernels_only_auto_is_checked(few):
    checks = list(kernels.check_all(CPU))
    assert all(check.passed for check in checks)
    assert [check.name for check in checks][:6] == [
        "network, auto, float64, 2D, symmetric", "network, auto, float64, 2D, zeros",
        "network, auto, float32, 2D, symmetric", "network, auto, float32, 2D, zeros",
        "network, auto, bfloat16, 2D, symmetric", "network, auto, bfloat16, 2D, zeros",
    ]  # fmt: skip
    assert len(checks) == 6 + 10
    assert all(check.name.startswith("semifield ") for check in checks[6:])
    assert all(", auto, " in check.name for check in checks)


@pytest.mark.parametrize(
    "function",
    [
        "taps_gather",
        "taps_spread",
        "front_forward",
        "inner_forward",
        "inner_backward",
        "back_input",
        "unpack",
    ],
)
def test_a_kernel_that_does_nothing_is_seen(few, shim, function, monkeypatch):
    launch = shim.launch

    def forget(source, name, *arguments):
        if name != function:
            launch(source, name, *arguments)

    monkeypatch.setattr(shim, "launch", forget)
    assert not all(check.passed for check in kernels.check_networks(CPU, "cuda"))
    assert launcher.obstacle(CPU) is None


@pytest.mark.parametrize("function", ["semifield_backward_img", "semifield_backward_kernel"])
def test_a_semifield_kernel_that_does_nothing_is_seen(shim, function, monkeypatch):
    launch = shim.launch

    def clear(source, name, grid, block, arguments, shared_bytes):
        if name == function:
            arguments[5].zero_()
        else:
            launch(source, name, grid, block, arguments, shared_bytes)

    monkeypatch.setattr(shim, "launch", clear)
    assert not any(check.passed for check in kernels.check_semifields(CPU, "cuda"))

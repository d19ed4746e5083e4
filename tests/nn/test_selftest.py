"""The self-test of semifields passes on right kernels and sees wrong ones."""

import torch

from msdtool.nn import selftest
from msdtool.ops import selftest as ops_selftest

CPU = torch.device("cpu")


def test_semifields_are_checked_with_kernels_and_without(shim, monkeypatch):
    monkeypatch.setattr(ops_selftest, "check_all", lambda device: iter(()))
    checks = list(selftest.check_all(CPU))
    assert all(check.passed for check in checks), checks
    assert len(checks) == 2 * 10
    assert {name for _, name in shim.launched} == {
        "semifield_forward", "semifield_backward_img", "semifield_backward_kernel",
    }  # fmt: skip


def test_a_kernel_that_does_nothing_is_seen(shim, monkeypatch):
    launch = shim.launch

    def forget(source, name, *arguments):
        if name != "semifield_backward_img":
            launch(source, name, *arguments)

    monkeypatch.setattr(shim, "launch", forget)
    assert not all(check.passed for check in selftest.check_semifields(CPU, "cuda"))

"""The bench of semifield convolutions: correctness first, then ratios of what was measured."""

import os

import pytest
import torch

from msdtool.bench import semifield
from msdtool.bench.memory import step_growth
from msdtool.bench.semifield import METHODS, SemifieldCase, prepare_step, run_semifields
from msdtool.errors import Error

SMALL = SemifieldCase(12, 2, 2)


@pytest.fixture
def growth(monkeypatch) -> None:
    """Memory by the method's name, without a process for each."""

    def bytes_of(prepare) -> int:
        return 1000 if prepare.args[1] == "broadcast" else 50

    monkeypatch.setattr(semifield, "step_growth", bytes_of)


@pytest.mark.usefixtures("growth")
def test_every_method_is_compared_with_broadcasting():
    found = list(run_semifields(SMALL, 0.0))
    assert [[row.method for row in rows] for rows in found] == [list(m) for m in METHODS.values()]
    for rows in found:
        assert (rows[0].method, rows[0].speedup, rows[0].memory_share) == ("broadcast", 1, 1)
        for row in rows:
            assert row.speedup == pytest.approx(rows[0].step_seconds / row.step_seconds)
            assert row.step_seconds > row.forward_seconds > 0
        assert [row.memory_share for row in rows[1:]] == [0.05] * (len(rows) - 1)


@pytest.mark.usefixtures("growth")
def test_nothing_wrong_is_timed(monkeypatch):
    wrong = {**METHODS["max"], "select": METHODS["root(3)"]["subtract"]}
    monkeypatch.setitem(METHODS, "max", wrong)
    with pytest.raises(Error, match="max by select differs from the broadcast formulation by"):
        next(run_semifields(SMALL, 0.0))


def test_a_step_frees_its_graph():
    step = prepare_step("max", "select", SMALL, tiny=False)
    first, second = step(), step()
    assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))
    assert not step.output.requires_grad


class Ballast:
    """A step that takes memory of known size."""

    def __init__(self, megabytes: int) -> None:
        self.megabytes = megabytes

    def __call__(self) -> torch.Tensor:
        return torch.ones(self.megabytes * 2**18)


def prepare_ballast(tiny: bool) -> Ballast:
    return Ballast(1 if tiny else 80)


@pytest.mark.skipif(os.name == "nt", reason="nothing to read it from")
def test_a_steps_memory_is_measured_in_its_own_process():
    assert step_growth(prepare_ballast) == pytest.approx(80 * 2**20, rel=0.1)


def test_windows_has_no_figure(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    assert step_growth(prepare_ballast) is None

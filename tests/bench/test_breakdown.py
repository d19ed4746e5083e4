"""The figures of single kernels."""

import pytest
import torch

from msdtool.bench import breakdown
from msdtool.bench.breakdown import KernelRow, as_graph, measure_kernels, table
from msdtool.bench.cases import Case
from msdtool.bench.kernels import kernels_of
from msdtool.bench.timing import TimeitResult

CPU = torch.device("cpu")


def test_figures_follow_from_counts_and_times(shim):
    rows = list(measure_kernels(Case((16, 17), depth=10), CPU, 1e9, 1e6, seconds=0.0))
    first = rows[0]
    assert first.gb_per_second == pytest.approx(4 * 27 * 272 / first.seconds / 1e9)
    assert first.tflops == pytest.approx(2 * 18 * 9 * 272 / first.seconds / 1e12)
    assert first.limit_share == pytest.approx(4 * 27 * 272 / 1e6 / first.seconds)


def test_on_a_gpu_a_graph_of_many_calls_is_timed(shim, monkeypatch):
    """So that it is not Python that is timed, whose launch takes longer than most kernels."""
    monkeypatch.setattr(breakdown, "synchronizer", lambda device: None)
    monkeypatch.setattr(breakdown, "kernels_of", lambda case, device: kernels_of(case, CPU)[:1])
    monkeypatch.setattr(breakdown, "as_graph", lambda start, calls: start)
    monkeypatch.setattr(
        breakdown, "bench", lambda *_, **__: TimeitResult.of_runs("replay", [5.0, 5.0, 5.0])
    )
    (row,) = measure_kernels(Case((16, 17), depth=10), torch.device("cuda", 0), 1e9, 1e6)
    assert row.seconds == 5.0 / breakdown.CALLS_PER_GRAPH


@pytest.mark.gpu
def test_a_graph_runs_all_its_calls():
    count = torch.zeros((), device="cuda")
    replay = as_graph(lambda: count.add_(1), 20)
    before = count.item()
    replay()
    assert count.item() == before + 20


def test_the_table_has_a_line_for_each():
    lines = table([KernelRow("taps_gather", 0.0012, 1234.0, 0.5, 0.25)]).splitlines()
    assert lines[0].split() == ["kernel", "ms", "GB/s", "TFLOP/s", "of", "limit"]
    assert lines[1].split() == ["taps_gather", "1.2000", "1234", "0.50", "25.0%"]

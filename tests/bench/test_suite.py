import math
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from msdtool.bench import suite
from msdtool.bench.cases import Case
from msdtool.bench.suite import Row, run_suite
from msdtool.bench.timing import TimeitResult

CPU = torch.device("cpu")
METHODS = ["msdtool", "torch.cat + conv", "in-place conv"]
SMALL = Case((16, 16), depth=3)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No processes, and peaks of sgemm that rise from one measurement to the next."""
    peaks = iter(range(1, 1000))
    monkeypatch.setattr(suite, "sgemm_peak", lambda device: 1e9 * next(peaks))
    monkeypatch.setattr(suite, "peak_growth", lambda case, module, device: (10, 20))


def measure(*cases, limit=math.inf, **options):  # an estimated time would depend on load
    return list(run_suite(cases, CPU, seconds=0.0, limit=limit, **options))


def test_each_case_has_a_row_for_each_method():
    found = measure(SMALL, Case((16, 16, 16), depth=2))
    assert [[row.method for row in rows] for rows in found] == [METHODS, METHODS]
    assert found[1][0].case.ndim == 3
    assert all(row.step is not None and not row.note for rows in found for row in rows)


def test_alone_means_without_rivals():
    assert [[row.method for row in rows] for rows in measure(SMALL, alone=True)] == [["msdtool"]]


@pytest.mark.parametrize(
    ("padding", "of_rivals"),
    [("symmetric", "reflect"), ("reflect", "reflect"), ("zeros", "zeros")],
)
def test_rows_say_what_padding_was_measured(padding, of_rivals):
    rows = measure(Case((16, 16), depth=3, padding=padding))[0]
    assert [row.case.padding for row in rows] == [padding, of_rivals, of_rivals]


def test_a_step_is_forward_plus_backward_run_by_run(monkeypatch):
    times = {name: [[9.0, 9.0, 9.0], [1.0, 2.0, 4.0], [10.0, 30.0, 20.0]] for name in METHODS}
    times["in-place conv"] = [[1.0], [100.0], [1.0]]
    monkeypatch.setattr(suite, "_time_side_by_side", lambda *_: times)
    engine, _, rival = measure(SMALL)[0]
    assert engine.step.all_runs == [11.0, 32.0, 24.0]
    assert engine.backward.median == 20.0
    assert engine.forward.median == 9.0
    assert engine.ratio == 1.0
    assert rival.ratio == pytest.approx(101 / 24)


def test_the_share_refers_to_the_higher_peak():
    first, second = measure(SMALL, SMALL, alone=True)
    assert first[0].sgemm == 2e9
    assert second[0].sgemm == 4e9


def test_figures_follow_from_counts_and_times():
    case = Case((32, 16), depth=100)
    flops = 512 * (90_900 + 2 * 101)
    row = Row(
        case,
        "msdtool",
        forward=TimeitResult.of_runs("forward", [5.0, 1.0, 2.0]),
        backward=TimeitResult.of_runs("backward", [4.0]),
        step=TimeitResult.of_runs("step", [8.0]),
        sgemm=1e9,
        forward_bytes=2 * 4 * 512 * 101,
        step_bytes=3 * 4 * 512 * 101,
    ).as_dict()
    assert row["forward_flops"] == flops
    assert row["step_flops"] == 3 * flops
    assert row["forward_seconds"] == 2.0
    assert row["forward_gflops"] == pytest.approx(flops / 2.0 / 1e9)
    assert row["backward_gflops"] == pytest.approx(2 * flops / 4.0 / 1e9)
    assert row["step_gflops"] == pytest.approx(3 * flops / 8.0 / 1e9)
    assert row["step_share"] == pytest.approx(row["step_gflops"] / row["sgemm_gflops"])
    assert row["forward_buffers"] == pytest.approx(2.0)
    assert row["step_buffers"] == pytest.approx(1.5)
    assert (row["space"], row["pixels"], row["ndim"]) == ((32, 16), 512, 2)


def test_what_was_not_measured_has_no_figure():
    row = Row(SMALL, "msdtool", note="why").as_dict()
    measured = [key for key in row if key.startswith(("forward_", "backward_", "step_"))]
    assert {key for key in measured if row[key] is not None} == {"forward_flops", "step_flops"}
    assert row["ratio"] is None
    assert row["runs"] == 0
    assert row["note"] == "why"


def test_methods_over_the_limit_are_left_out_with_a_reason():
    rows = measure(SMALL, limit=0.0)[0]
    assert [row.step is None for row in rows] == [False, True, True]
    assert all("more than the limit of 0 ns" in row.note for row in rows[1:])


def test_the_pace_is_taken_from_the_last_case(monkeypatch):
    slow = {name: [[1.0], [40.0], [60.0]] for name in METHODS}
    monkeypatch.setattr(suite, "_time_side_by_side", lambda *_: slow)
    larger = Case((32, 32), depth=3)
    assert math.isclose(larger.forward_flops / SMALL.forward_flops, 4)
    first, second = measure(SMALL, larger, limit=399.0)
    assert all(row.step for row in first)
    assert [row.note for row in second] == [
        "",
        *["not run: a step would take about 6 min 40 s, more than the limit of 6 min 39 s"] * 2,
    ]


def test_methods_that_do_not_fit_memory_are_left_out_with_a_reason(monkeypatch):
    # Two buffers of 101 channels are 0.4 GB; the 5,050 channels that all layers read, and their
    # padded copies, more than 20 GB.
    monkeypatch.setattr(suite, "available_bytes", lambda device: 4 * 2**30)
    monkeypatch.setattr(
        suite,
        "_time_side_by_side",
        lambda chosen, *_: {method.name: [[1.0]] * 3 for method, _ in chosen},
    )
    rows = measure(Case((1024, 512), depth=100))[0]
    assert [row.step is None for row in rows] == [False, True, False]
    assert "a step would take about 2" in rows[1].note
    assert "4.0 GB are free" in rows[1].note


def test_where_nothing_fits_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(suite, "available_bytes", lambda device: 1000)
    rows = measure(SMALL, SMALL)
    assert all(row.step is None and row.note for case in rows for row in case)


def test_a_process_killed_over_memory_leaves_the_times(monkeypatch):
    def killed(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(suite, "peak_growth", killed)
    row = measure(SMALL, alone=True)[0][0]
    assert row.step is not None
    assert row.step_bytes is None
    assert "killed by the system" in row.note


def test_a_row_reads_as_a_line():
    row = Row(SMALL, "msdtool", step=TimeitResult.of_runs("step", [0.25]))
    assert str(row) == "16 x 16, depth 3, width 1, symmetric padding, msdtool: step 250 ms"
    assert str(Row(SMALL, "msdtool", note="why")).endswith("msdtool: why")


def test_memory_that_runs_out_in_a_timed_round_costs_one_method(monkeypatch):
    rounds = dict.fromkeys(METHODS, 0)
    backward = suite._Steps.backward

    def runs_out(steps):
        rounds[steps.method.name] += 1
        if steps.method.name == "torch.cat + conv" and rounds[steps.method.name] == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 44 GiB.")
        backward(steps)

    monkeypatch.setattr(suite._Steps, "backward", runs_out)
    rows = measure(SMALL)[0]
    assert [row.step is None for row in rows] == [False, True, False]
    assert rows[1].note == "not run: CUDA out of memory. Tried to allocate 44 GiB."


def test_a_mistake_of_ours_is_no_result(monkeypatch):
    monkeypatch.setattr(suite._Steps, "infer", lambda steps: {}["missing"])
    with pytest.raises(KeyError):
        measure(SMALL)

"""Times come from a clock that only the timed functions move."""

import numpy as np
import pytest

import msdtool.bench
from msdtool.bench.timing import MAX_RUNS, TimeitResult, bench, interleave, readable_time


class Clock:
    """Stands in for time.perf_counter; remembers who was called."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def task(self, name, *seconds):
        """A function that takes the given seconds, the last of them from then on."""
        left = list(seconds)

        def run():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock


def test_the_names_of_the_original_are_importable():
    assert msdtool.bench.TimeitResult is TimeitResult
    assert msdtool.bench.bench is bench


def test_a_result_keeps_what_it_is_given():
    result = TimeitResult("step", 4, 3, 0.5, 2.0, [2.0, 4.0, 8.0], precision=5)
    assert (result.name, result.loops, result.repeat) == ("step", 4, 3)
    assert (result.best, result.worst) == (0.5, 2.0)
    assert result.all_runs == [2.0, 4.0, 8.0]
    assert result.precision == 5


def test_statistics_are_per_call():
    runs = [2.0, 4.0, 9.0, 5.0]
    result = TimeitResult.of_runs("step", runs, loops=4)
    per_call = np.array(runs) / 4
    assert result.average == pytest.approx(per_call.mean())
    assert result.stdev == pytest.approx(per_call.std())
    assert result.median == pytest.approx(np.median(per_call))
    assert result.best == per_call.min()
    assert result.worst == per_call.max()
    assert result.repeat == 4


def test_a_result_reads_like_timeit():
    result = TimeitResult("step", 1000, 2, 0.001, 0.003, [1.0, 3.0])
    assert (
        str(result) == "step: 2 ms ± 1 ms per loop (mean ± std. dev. of 2 runs, 1,000 loops each)"
    )
    single = TimeitResult("step", 1, 1, 1.23456, 1.23456, [1.23456], precision=4)
    assert str(single) == "step: 1.235 s ± 0 ns per loop (mean ± std. dev. of 1 run, 1 loop each)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ns"),
        (3.2e-7, "320 ns"),
        (4.56e-5, "45.6 µs"),
        (0.9996e-3, "1 ms"),
        (0.0456, "45.6 ms"),
        (0.9996, "1 s"),
        (59.4, "59.4 s"),
        (59.96, "1 min 0 s"),
        (125.4, "2 min 5 s"),
        (3725.0, "62 min 5 s"),
    ],
)
def test_times_are_shown_in_their_unit(seconds, text):
    assert readable_time(seconds) == text


def test_rounded_times_are_not_powers_of_ten():
    assert readable_time(0.1234, precision=2) == "120 ms"


def test_bench_leaves_out_the_warm_up(clock):
    result = bench("step", clock.task("step", 100.0, 0.5), seconds=2.0)
    assert result.all_runs == [0.5] * 4
    assert len(clock.calls) == 2 + 4


def test_bench_repeats_quick_functions_within_a_run(clock):
    result = bench("quick", clock.task("quick", 0.001), seconds=0.05)
    assert result.loops == 10
    assert result.repeat == 5
    assert result.average == pytest.approx(0.001)


def test_bench_runs_slow_functions_three_times(clock):
    assert bench("slow", clock.task("slow", 60.0), seconds=1.0).repeat == 3


def test_bench_waits_for_the_device(clock):
    # The call returns at once; what it asked for takes two seconds.
    pending = []

    def finish():
        clock.now += 2.0 * len(pending)
        pending.clear()

    result = bench("kernel", lambda: pending.append(1), seconds=1.0, synchronize=finish)
    assert result.median == pytest.approx(2.0)


def test_interleaved_subjects_take_turns(clock):
    subjects = {"a": [clock.task("a", 1.0)], "b": [clock.task("b", 1.0)]}
    times = interleave(subjects, seconds=4.0)
    assert clock.calls == ["a", "b"] * 5
    assert times == {"a": [[1.0] * 4], "b": [[1.0] * 4]}


def test_parts_run_in_order_and_are_timed_apart(clock):
    subjects = {"a": [clock.task("forward", 1.0), clock.task("backward", 2.0)]}
    assert interleave(subjects, seconds=9.0) == {"a": [[1.0] * 3, [2.0] * 3]}
    assert clock.calls == ["forward", "backward"] * 4


def test_a_slower_subject_runs_less_often_but_to_the_end(clock):
    subjects = {"fast": [clock.task("fast", 1.0)], "slow": [clock.task("slow", 3.0)]}
    times = interleave(subjects, seconds=9.0)
    assert (len(times["fast"][0]), len(times["slow"][0])) == (9, 3)
    assert "".join(call[0] for call in clock.calls) == "fs" + "fffs" * 3


def test_only_rivals_may_be_too_slow_to_repeat(clock):
    subjects = {"engine": [clock.task("engine", 7.0)], "rival": [clock.task("rival", 8.0)]}
    times = interleave(subjects, seconds=2.0)
    assert times == {"engine": [[7.0] * 3], "rival": [[8.0]]}


def test_the_number_of_rounds_is_bounded(clock):
    times = interleave({"a": [clock.task("a", 1e-6)]}, seconds=1.0)
    assert len(times["a"][0]) == MAX_RUNS


def test_a_subject_that_fails_loses_only_its_own_times(clock):
    calls = iter([1.0, 1.0])

    def fails_in_its_third_round():
        clock.now += next(calls)

    failures = []
    subjects = {"engine": [clock.task("engine", 1.0)], "rival": [fails_in_its_third_round]}
    times = interleave(subjects, 4.0, None, lambda name, error: failures.append((name, error)))
    assert times == {"engine": [[1.0] * 4]}
    ((name, error),) = failures
    assert (name, type(error)) == ("rival", StopIteration)


def test_without_anyone_to_tell_a_failure_comes_through():
    with pytest.raises(ZeroDivisionError):
        interleave({"a": [lambda: 1 / 0]}, 1.0)

"""Times of calls, interleaved so that the noise of a busy machine affects all alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Call = Callable[[], object]

RUN_SECONDS = 0.01
MIN_RUNS = 3
MAX_RUNS = 25


class TimeitResult:
    """Times of one callable, with the attributes of IPython's `TimeitResult`.

    Args:
        name: what was timed.
        loops: calls per run.
        repeat: number of runs.
        best: shortest time per call, in seconds.
        worst: longest time per call, in seconds.
        all_runs: time of each run of ``loops`` calls, in seconds.
        precision: significant digits shown.
    """

    def __init__(
        self,
        name: str,
        loops: int,
        repeat: int,
        best: float,
        worst: float,
        all_runs: Sequence[float],
        precision: int = 3,
    ) -> None:
        self.name = name
        self.loops = loops
        self.repeat = repeat
        self.best = best
        self.worst = worst
        self.all_runs = list(all_runs)
        self.precision = precision

    @classmethod
    def of_runs(cls, name: str, runs: Sequence[float], loops: int = 1) -> "TimeitResult":
        """Make a result from the time of each run of ``loops`` calls."""
        return cls(name, loops, len(runs), min(runs) / loops, max(runs) / loops, runs)

    @property
    def timings(self) -> list[float]:
        """Time per call of each run, in seconds."""
        return [run / self.loops for run in self.all_runs]

    @property
    def average(self) -> float:
        """Mean time per call, in seconds."""
        return statistics.fmean(self.timings)

    @property
    def median(self) -> float:
        """Median time per call, in seconds."""
        return statistics.median(self.timings)

    @property
    def stdev(self) -> float:
        """Standard deviation of the time per call over the runs, in seconds."""
        return statistics.pstdev(self.timings)

    def __str__(self) -> str:
        average, stdev = (readable_time(t, self.precision) for t in (self.average, self.stdev))
        runs = f"{self.repeat} run{'s' * (self.repeat != 1)}"
        loops = f"{self.loops:,} loop{'s' * (self.loops != 1)}"
        return (
            f"{self.name}: {average} ± {stdev} per loop (mean ± std. dev. of {runs}, {loops} each)"
        )

    def __repr__(self) -> str:
        return f"<TimeitResult {self}>"


def readable_time(seconds: float, precision: int = 3) -> str:
    """Format a time in a suitable unit: 1.5 ms, 320 ns, 2 min 5 s."""
    rounded = float(f"{seconds:.{precision}g}")
    if rounded >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    units = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9))
    unit, scale = next((pair for pair in units if rounded * pair[1] >= 1), units[-1])
    return f"{rounded * scale:.{max(precision, 3)}g} {unit}"


def bench(
    name: str, function: Call, *, seconds: float = 1.0, synchronize: Call | None = None
) -> TimeitResult:
    """Time a callable for about ``seconds``, after two warm-up calls.

    Args:
        name: what is timed.
        function: called without arguments.
        seconds: time to spend; there are at least three runs.
        synchronize: waits for a GPU to finish; None for CPUs.
    """
    _time(function, 1, synchronize)
    once = _time(function, 1, synchronize)
    loops = max(1, math.ceil(RUN_SECONDS / max(once, 1e-9)))
    repeat = _num_rounds(once * loops, seconds)
    runs = [_time(function, loops, synchronize) for _ in range(repeat)]
    return TimeitResult.of_runs(name, runs, loops)


def interleave(
    subjects: Mapping[str, Sequence[Call]],
    seconds: float,
    synchronize: Call | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
) -> dict[str, list[list[float]]]:
    """Time several subjects in turn, round after round.

    A subject is a sequence of parts, such as forward and backward, that are called in order and
    timed one by one. Its first round is a warm-up and determines how many rounds fit ``seconds``,
    at least three. A subject after the first whose round takes longer than ``seconds`` gets no
    further round, and the time of the warm-up counts.

    Args:
        subjects: parts by name.
        seconds: time to spend on each subject.
        synchronize: waits for a GPU to finish; None for CPUs.
        on_failure: told the name of a subject that raises and its exception; the subject is then
            left out, whatever it was timed before. None lets the exception through.

    Returns:
        The time of each run in seconds, for each subject and part.
    """
    failed: set[str] = set()

    def run(name: str) -> list[float]:
        try:
            return [_time(part, 1, synchronize) for part in subjects[name]]
        except Exception as error:
            if on_failure is None:
                raise
            failed.add(name)
            on_failure(name, error)
            return []

    warm_up = {name: run(name) for name in subjects}
    rounds = {name: _num_rounds(sum(times), seconds) for name, times in warm_up.items()}
    for name in list(subjects)[1:]:
        if sum(warm_up[name]) > seconds:
            rounds[name] = 0
    last = max(rounds.values())
    taken: dict[str, list[list[float]]] = {name: [] for name in subjects}
    for turn in range(last):
        for name in subjects:
            # The rounds of subjects with fewer rounds are spread evenly.
            due = (turn + 1) * rounds[name] // last > turn * rounds[name] // last
            if due and name not in failed:
                taken[name].append(run(name))
    return {
        name: [list(part) for part in zip(*(taken[name] or [warm_up[name]]), strict=True)]
        for name in subjects
        if name not in failed
    }


def _num_rounds(once: float, seconds: float) -> int:
    return min(max(MIN_RUNS, int(seconds / max(once, 1e-9))), MAX_RUNS)


def _time(function: Call, loops: int, synchronize: Call | None) -> float:
    """Return the seconds that ``loops`` calls take."""
    if synchronize is not None:
        synchronize()
    start = time.perf_counter()
    for _ in range(loops):
        function()
    if synchronize is not None:
        synchronize()
    return time.perf_counter() - start

"""Measures cases one after another: the engine, compared with networks in plain torch."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from msdtool.bench.cases import STEP_PER_FORWARD, Case, Problem, forward_limit, step_limit
from msdtool.bench.machine import available_bytes, copy_bandwidth, sgemm_peak, synchronizer
from msdtool.bench.memory import peak_growth
from msdtool.bench.methods import ENGINE, Method, methods_for
from msdtool.bench.timing import TimeitResult, interleave, readable_time
from msdtool.errors import KernelError
from msdtool.nn.device import matrix_products

USABLE_MEMORY = 0.8
PROBES = {2: (64, 64), 3: (24, 24, 24)}
FAILURES = (RuntimeError, KernelError)  # torch's own, and that of a kernel


@dataclass(frozen=True)
class Row:
    """The results of one method on one case; None means not measured, and `note` says why.

    Attributes:
        case: as the method computed it.
        method: its name.
        forward: a forward pass without gradients.
        backward: from the output's gradient to those of all parameters.
        step: a forward pass that backward can follow, and backward.
        sgemm: FLOP per second of the machine's best matrix product around that time.
        copy: bytes per second of a copy in a GPU's memory; None on CPUs.
        forward_bytes: peak memory of the forward pass in addition to the tensors of the case.
        step_bytes: the same for a step.
        ratio: the step's time over that of the engine.
        note: why something was not measured.
    """

    case: Case
    method: str
    forward: TimeitResult | None = None
    backward: TimeitResult | None = None
    step: TimeitResult | None = None
    sgemm: float | None = None
    copy: float | None = None
    forward_bytes: int | None = None
    step_bytes: int | None = None
    ratio: float | None = None
    note: str = ""

    def __str__(self) -> str:
        found = f"step {readable_time(self.step.median)}" if self.step else self.note
        return f"{self.case}, {self.method}: {found}"

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data, times as medians in seconds."""
        case = self.case
        values = {
            "method": self.method,
            **asdict(case),
            "ndim": case.ndim,
            "pixels": case.pixels,
            "forward_flops": case.forward_flops,
            "step_flops": STEP_PER_FORWARD * case.forward_flops,
            "runs": self.step.repeat if self.step else 0,
            "sgemm_gflops": self.sgemm and self.sgemm / 1e9,
            "copy_gb_per_second": self.copy and self.copy / 1e9,
        }
        for name, passes in (("forward", 1), ("backward", 2), ("step", STEP_PER_FORWARD)):
            times: TimeitResult | None = getattr(self, name)
            rate = passes * case.forward_flops / times.median if times else None
            values[f"{name}_seconds"] = times.median if times else None
            values[f"{name}_gflops"] = rate and rate / 1e9
            values[f"{name}_share"] = rate / self.sgemm if rate and self.sgemm else None
        for name, limit in (("forward", forward_limit), ("step", step_limit)):
            least = limit(case, self.sgemm, self.copy) if self.sgemm and self.copy else None
            times = getattr(self, name)
            values[f"{name}_limit_seconds"] = least
            values[f"{name}_limit_share"] = least / times.median if least and times else None
        for name, buffers in (("forward", 1), ("step", 2)):
            size: int | None = getattr(self, f"{name}_bytes")
            values[f"{name}_bytes"] = size
            values[f"{name}_buffers"] = size and size / (buffers * case.buffer_bytes)
        return {**values, "ratio": self.ratio, "note": self.note}


def run_suite(
    cases: Sequence[Case],
    device: torch.device,
    *,
    seconds: float,
    limit: float,
    alone: bool = False,
) -> Iterator[list[Row]]:
    """Measure cases in order; yield the rows of each, the engine's first.

    Args:
        cases: what to measure.
        device: where.
        seconds: time to spend on each method and case; the engine has at least three runs, and so
            do the others unless a single run takes longer.
        limit: skip other methods if a step would take more seconds than this.
        alone: skip all other methods.
    """
    methods = methods_for(device)[: 1 if alone else None]
    pace: dict[tuple[str, int], float] = {}
    copy = copy_bandwidth(device)
    for case in cases:
        chosen, rows = _choose(case, methods, device, limit, pace)
        before = sgemm_peak(device)
        times = _time_side_by_side(chosen, device, seconds)
        # The load varies; the higher of the two flatters no method.
        peak = max(before, sgemm_peak(device))
        for method, used in chosen:
            found = times[method.name]
            if isinstance(found, str):
                rows[method.name] = Row(used, method.name, note=found)
                continue
            row = _measured_row(method, used, found, (peak, copy), device)
            assert row.step is not None
            pace[method.name, case.ndim] = row.step.median / case.forward_flops
            rows[method.name] = row
        yield _with_ratios([rows[method.name] for method in methods])


def _choose(
    case: Case,
    methods: Sequence[Method],
    device: torch.device,
    limit: float,
    pace: dict[tuple[str, int], float],
) -> tuple[list[tuple[Method, Case]], dict[str, Row]]:
    """Return the methods that can be measured, each with its case, and rows of the others."""
    chosen, rows = [], {}
    for method in methods:
        used = case
        if not method.symmetric and case.padding == "symmetric":
            used = replace(case, padding="reflect")
        note = method.obstacle(used) or _too_large(method, used, device)
        if not note and method.name != ENGINE:
            note = _too_slow(method, used, device, limit, pace)
        if note:
            rows[method.name] = Row(used, method.name, note=note)
        else:
            chosen.append((method, used))
    return chosen, rows


def _too_large(method: Method, case: Case, device: torch.device) -> str:
    needed, available = method.step_bytes(case), available_bytes(device)
    if available is None or needed <= USABLE_MEMORY * available:
        return ""
    return (
        f"not run: a step would take about {needed / 2**30:.1f} GB of memory, "
        f"{available / 2**30:.1f} GB are free"
    )


def _too_slow(
    method: Method,
    case: Case,
    device: torch.device,
    limit: float,
    pace: dict[tuple[str, int], float],
) -> str:
    """Estimate a step from the method's last one, or from one of a small network."""
    key = method.name, case.ndim
    if key not in pace:
        small = replace(case, space=PROBES[case.ndim], depth=10)
        problem = _Steps(method, Problem(small, device, method.dtype))
        try:
            times = interleave({"": [problem.forward, problem.backward]}, 0, synchronizer(device))
        except FAILURES as error:
            return _reason(error)
        pace[key] = sum(map(min, times[""])) / small.forward_flops
    estimate = pace[key] * case.forward_flops
    if estimate <= limit:
        return ""
    return (
        f"not run: a step would take about {readable_time(estimate, 2)}, "
        f"more than the limit of {readable_time(limit)}"
    )


def _reason(error: Exception) -> str:
    """Return why a method is skipped: torch.compile may lack a compiler, memory may run out."""
    return f"not run: {(str(error).strip() or type(error).__name__).splitlines()[0]}"


class _Steps:
    """The parts of a step, called in turn."""

    def __init__(self, method: Method, problem: Problem) -> None:
        self.method, self.problem = method, problem
        self.output: Tensor | None = None

    def parts(self) -> list[Callable[[], None]]:
        return [self.infer, self.forward, self.backward]

    def infer(self) -> None:
        with torch.no_grad(), matrix_products(tf32=self.method.tf32):
            self.problem.forward(self.method.module)

    def forward(self) -> None:
        with matrix_products(tf32=self.method.tf32):
            self.output = self.problem.forward(self.method.module)

    def backward(self) -> None:
        assert self.output is not None
        with matrix_products(tf32=self.method.tf32):
            self.problem.backward(self.output)
        self.output = None


def _time_side_by_side(
    chosen: Sequence[tuple[Method, Case]], device: torch.device, seconds: float
) -> dict[str, list[list[float]] | str]:
    """Return the times of each method's parts, or why it failed."""
    found: dict[str, list[list[float]] | str] = {}
    subjects = {
        method.name: _Steps(method, Problem(case, device, method.dtype)) for method, case in chosen
    }

    def lose(name: str, error: Exception) -> None:
        """Note why a method failed; what it holds in memory is freed for the others."""
        if not isinstance(error, FAILURES):
            raise error
        found[name] = _reason(error)
        subjects[name].output = None
        if device.type == "cuda":
            torch.cuda.empty_cache()

    for name, steps in subjects.items():
        try:
            if device.type == "cuda":
                _first_round(steps.parts())
        except FAILURES as error:
            lose(name, error)
    parts = {name: steps.parts() for name, steps in subjects.items() if name not in found}
    if parts:
        found.update(interleave(parts, seconds, synchronizer(device), lose))
    return found


def _first_round(parts: Sequence[Callable[[], None]]) -> None:
    """Run an untimed round, which on a GPU compiles kernels and captures graphs."""
    for part in parts:
        part()


def _measured_row(
    method: Method,
    case: Case,
    times: list[list[float]],
    peaks: tuple[float, float | None],
    device: torch.device,
) -> Row:
    infer, forward, backward = times
    step = [sum(parts) for parts in zip(forward, backward, strict=True)]
    note, growth = "", None
    try:
        if method.dtype == torch.float32:
            growth = peak_growth(case, method.module, device)
    except BrokenProcessPool:
        note = "memory: the process that measured it was killed by the system"
    except FAILURES as error:
        note = f"memory: {_reason(error)}"
    forward_bytes, step_bytes = growth or (None, None)
    return Row(
        case,
        method.name,
        TimeitResult.of_runs("forward", infer),
        TimeitResult.of_runs("backward", backward),
        TimeitResult.of_runs("step", step),
        *peaks,
        forward_bytes,
        step_bytes,
        note=note,
    )


def _with_ratios(rows: Sequence[Row]) -> list[Row]:
    engine = rows[0].step
    return [
        replace(row, ratio=row.step.median / engine.median) if row.step and engine else row
        for row in rows
    ]

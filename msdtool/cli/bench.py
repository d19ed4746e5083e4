"""msdtool bench"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.atomic import check_place
from msdtool.cli import console
from msdtool.cli.console import Json, Quiet
from msdtool.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from msdtool.bench.cases import Case
    from msdtool.bench.gpu_kernels import KernelRow

DEFAULT_SECONDS, DEFAULT_LIMIT = 2.0, 6.0
FULL_SECONDS, FULL_LIMIT = 15.0, 120.0
OF_NETWORKS = (
    "depth", "width", "ndim", "full", "padding", "alone", "limit", "device", "plot", "profile",
)  # fmt: skip


class Padding(str, Enum):
    """The border rules."""

    SYMMETRIC = "symmetric"
    REFLECT = "reflect"
    ZEROS = "zeros"


class Device(str, Enum):
    """Where to measure."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


def command(
    context: typer.Context,
    size: Annotated[
        list[int] | None,
        typer.Option(min=16, help="Edge of the image or, with --ndim 3, volume. Repeatable."),
    ] = None,
    depth: Annotated[
        list[int] | None, typer.Option(min=1, help="Hidden layers. Repeatable.")
    ] = None,
    width: Annotated[
        list[int] | None, typer.Option(min=1, help="Channels per layer. Repeatable.")
    ] = None,
    ndim: Annotated[
        list[int] | None, typer.Option(min=2, max=3, help="Images or volumes. Repeatable.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="All sizes, depths and widths; takes long.")
    ] = False,
    padding: Annotated[Padding, typer.Option(help="The border rule.")] = Padding.SYMMETRIC,
    alone: Annotated[
        bool, typer.Option("--alone", help="Leave out plain torch, which takes most of the time.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="To spend on each method and case. Default: 2, with --full 15."),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Leave out plain torch where a step takes more seconds than this. "
            "Default: 6, with --full 120.",
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="auto takes the GPU if there is one.")] = (
        Device.CPU
    ),
    plot: Annotated[
        Path | None, typer.Option(help="Draw cost over pixels and depth as this PNG.")
    ] = None,
    semifields: Annotated[
        bool,
        typer.Option(
            "--semifields",
            help="Instead of networks, measure the semifield convolutions beside their broadcast "
            "formulation, on the CPU, with images of --size.",
        ),
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Write a trace of a training step of the last case, for ui.perfetto.dev."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the networks: whether they are right, then time, memory and share of the limit.

    Times are medians. A forward pass keeps nothing for gradients; a step is a forward pass that
    does, and backward to all parameters. Plain torch runs in turn with the engine; it has no
    symmetric padding and uses reflection there. Memory is what a fresh process grows by at its
    peak, after it made the input and the network.

    Example: msdtool bench --size 512 --depth 100 --plot costs.png
    """
    if semifields:
        _check_semifield_options(context)
        _semifields((size or [256])[0], seconds if seconds is not None else DEFAULT_SECONDS, json)
        return

    from msdtool.bench.cases import select_cases
    from msdtool.bench.correctness import check_engine
    from msdtool.bench.gpu_kernels import table as kernel_table
    from msdtool.bench.machine import machine_facts
    from msdtool.bench.profile import profile_step
    from msdtool.bench.suite import run_suite
    from msdtool.nn.device import choose_device

    for path in (plot, profile):
        _check_writable(path)
    where = choose_device(device.value)
    cases = select_cases(size or (), depth or (), width or (), ndim or (), padding.value, full)
    facts = machine_facts(where)
    rows: list[dict[str, Any]] = []
    with console.progress("bench", len(cases), quiet=quiet) as bar:
        errors = check_engine(where)
        bar.say(f"right: {_errors_text(errors)}")
        measured = run_suite(
            cases,
            where,
            seconds=seconds if seconds is not None else FULL_SECONDS if full else DEFAULT_SECONDS,
            limit=limit if limit is not None else FULL_LIMIT if full else DEFAULT_LIMIT,
            alone=alone,
        )
        for number, found in enumerate(measured):
            rows += [row.as_dict() for row in found]
            for row in found:
                bar.say(str(row))
            bar.update(number + 1)
    for name in ("sgemm_gflops", "copy_gb_per_second"):
        facts[name] = max((row[name] or 0.0 for row in rows), default=0.0) or None
    facts["gpu"] = facts["device"] if where.type == "cuda" else "not measured"
    kernels = _measure_kernels(cases[-1], where, facts)
    if json:
        kernel_rows = [asdict(kernel) for kernel in kernels]
        console.result_json(
            {"machine": facts, "correctness": errors, "rows": rows, "kernels": kernel_rows}
        )
    else:
        console.result(f"{_machine_text(facts)}\n{_errors_text(errors)}\n\n{_table(rows)}")
        if kernels:
            console.result(f"\nkernels of {cases[-1]}\n{kernel_table(kernels)}")
    if profile is not None:
        calls = profile_step(cases[-1], where, profile)
        if not json:
            console.result(calls)
    if plot is not None:
        from msdtool.report.costs import save_costs

        save_costs(plot, rows)


def _check_semifield_options(context: typer.Context) -> None:
    """Raise ConfigError for options that say nothing about semifields."""
    for name in OF_NETWORKS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(
                f"--{name} and --semifields: choose one; semifields take --size and --seconds"
            )
    if len(context.params["size"] or ()) > 1:
        raise ConfigError("--semifields: takes one --size; run it once for each")


def _check_writable(path: Path | None) -> None:
    """Raise ConfigError for a result that cannot be written: now, not after hours of work."""
    try:
        if path is not None:
            check_place(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def _semifields(size: int, seconds: float, json: bool) -> None:
    from msdtool.bench.machine import machine_facts
    from msdtool.bench.semifield import SemifieldCase, run_semifields
    from msdtool.bench.timing import readable_time
    from msdtool.nn.device import choose_device

    facts = machine_facts(choose_device("cpu"))
    found = run_semifields(SemifieldCase(size), seconds)
    rows = [row for of_semifield in found for row in of_semifield]
    if json:
        console.result_json({"machine": facts, "rows": [row.as_dict() for row in rows]})
        return
    lines = [("semifield", "method", "forward", "step", "speed-up", "memory", "share")]
    for row in rows:
        memory = "-" if row.step_bytes is None else f"{row.step_bytes / 2**20:,.0f} MB"
        share = "-" if row.memory_share is None else f"{row.memory_share:.1%}"
        seconds_text = readable_time(row.forward_seconds), readable_time(row.step_seconds)
        lines.append(
            (row.semifield, row.method, *seconds_text, f"{row.speedup:.3g}", memory, share)
        )
    text = "\n".join(
        "{:>9}  {:>22}  {:>9}  {:>9}  {:>8}  {:>9}  {:>6}".format(*line) for line in lines
    )
    console.result(
        f"{_machine_text({**facts, 'sgemm_gflops': None})}\n\n{text}\n\n{SEMIFIELD_LEGEND}"
    )


SEMIFIELD_LEGEND = """\
One image of 16 channels, 8 kernels of 3x3, float32. Times are medians; a step is forward and
backward. memory: what a step adds at its peak. speed-up, share: over the broadcast formulation."""


def _measure_kernels(
    case: "Case", device: "torch.device", facts: dict[str, Any]
) -> list["KernelRow"]:
    """The kernels of a case one by one; none on a CPU, without CuPy or where nothing was timed."""
    from msdtool.bench.gpu_kernels import measure_kernels
    from msdtool.ops import kernels

    measured = facts["sgemm_gflops"] and facts["copy_gb_per_second"]
    if not measured or device.type != "cuda" or kernels.obstacle(device) is not None:
        return []
    peaks = 1e9 * facts["sgemm_gflops"], 1e9 * facts["copy_gb_per_second"]
    return list(measure_kernels(case, device, *peaks))


def _errors_text(errors: dict[str, float]) -> str:
    found = ", ".join(f"{error:.1e} in {dtype}" for dtype, error in errors.items())
    return f"largest relative error of outputs and gradients against the reference: {found}"


def _machine_text(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"{facts['cpu']}, {facts['cpus']} CPUs, {facts['date']}",
        f"device {facts['device']}, engine {facts['engine']}",
        versions,
    ]
    if facts["sgemm_gflops"]:
        lines.append(f"sgemm peak {facts['sgemm_gflops']:.0f} GFLOP/s")
        if facts["copy_gb_per_second"]:
            lines[-1] += f", copy {facts['copy_gb_per_second']:.0f} GB/s"
    if facts["load_average"] is not None:
        lines[-1] += f", load average at the start {facts['load_average']:.1f}"
    return "\n".join(lines)


LEGEND = """\
Times are medians. GFLOP/s: of a step, by the exact count of operations; a step counts as three
forward passes. forward/sgemm, step/sgemm: share of the fastest product of matrices, measured before
and after each case. step/limit: on a GPU, the least time that sgemm and a copy in memory allow, by
count, over the time taken. memory: what a step adds at its peak; Y and G are all channels and their
gradients. ratio: the step's time over that of msdtool."""


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [_cells(row) for row in rows]
    lines = [list(cells[0]), *(list(line.values()) for line in cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    notes = ["", *(row["note"] for row in rows)]
    text = []
    for line, note in zip(lines, notes, strict=True):
        padded = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        text.append("  ".join((*padded, note)).rstrip())
    return "\n".join((*text, "", LEGEND))


def _cells(row: dict[str, Any]) -> dict[str, str]:
    from msdtool.bench.timing import readable_time

    def cell(name: str, show: Callable[[Any], str]) -> str:
        return "-" if row[name] is None else show(row[name])

    return {
        "image": "x".join(map(str, row["space"])),
        "depth": str(row["depth"]),
        "width": str(row["width"]),
        "method": f"{row['method']} ({row['padding']})",
        "forward": cell("forward_seconds", readable_time),
        "backward": cell("backward_seconds", readable_time),
        "step": cell("step_seconds", readable_time),
        "GFLOP/s": cell("step_gflops", "{:.3g}".format),
        "forward/sgemm": cell("forward_share", "{:.1%}".format),
        "step/sgemm": cell("step_share", "{:.1%}".format),
        "step/limit": cell("step_limit_share", "{:.1%}".format),
        "memory": cell("step_bytes", lambda size: f"{size / 2**20:,.0f} MB"),
        "of Y+G": cell("step_buffers", "{:.2f}".format),
        "ratio": cell("ratio", "{:.3g}".format),
        "runs": str(row["runs"]),
    }

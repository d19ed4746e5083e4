"""msdtool bench"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.atomic import PNG_START, check_place
from msdtool.border import Padding
from msdtool.cli import console
from msdtool.cli.bench_text import errors_text, machine_text, network_table, semifield_table
from msdtool.cli.imports import no_collection
from msdtool.cli.options import Device, Json, Quiet
from msdtool.errors import ConfigError
from msdtool.file_errors import cannot_write

if TYPE_CHECKING:
    import torch

    from msdtool.bench.breakdown import KernelRow
    from msdtool.bench.cases import Case

log = logging.getLogger(__name__)

Keep = Callable[[str, Any], None]
"""Takes the kind of a result and the result."""

DEFAULT_SECONDS, DEFAULT_LIMIT = 2.0, 6.0
FULL_SECONDS, FULL_LIMIT = 15.0, 120.0
OF_NETWORKS = (
    "depth", "width", "ndim", "full", "padding", "alone", "limit", "device", "figure", "profile",
)  # fmt: skip


def command(
    context: typer.Context,
    size: Annotated[
        list[int] | None,
        typer.Option(
            metavar="PIXELS",
            min=16,
            help="Edge of the image or, with --ndim 3, volume. Repeatable.",
        ),
    ] = None,
    depth: Annotated[
        list[int] | None,
        typer.Option(metavar="LAYERS", min=1, help="Hidden layers. Repeatable."),
    ] = None,
    width: Annotated[
        list[int] | None,
        typer.Option(metavar="CHANNELS", min=1, help="Channels per layer. Repeatable."),
    ] = None,
    ndim: Annotated[
        list[int] | None,
        typer.Option(metavar="NDIM", min=2, max=3, help="2 for images, 3 for volumes. Repeatable."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="All sizes, depths and widths; takes long.")
    ] = False,
    padding: Annotated[Padding, typer.Option(help="How the border is padded.")] = "symmetric",
    alone: Annotated[
        bool, typer.Option("--alone", help="Skip plain torch, which takes most of the time.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Time to spend on each method and case. Default: 2, with --full 15.",
        ),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Skip plain torch where a step takes longer than this. "
            "Default: 6, with --full 120.",
        ),
    ] = None,
    device: Device = "auto",
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw cost over pixels and depth.")
    ] = None,
    semifields: Annotated[
        bool,
        typer.Option(
            "--semifields",
            help="Instead of networks, compare the semifield convolutions with their broadcast "
            "formulation, on the CPU, with images of --size.",
        ),
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a trace of a training step of the last case, for ui.perfetto.dev.",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the networks: correctness, speed, memory, fraction of peak.

    Times are medians. A forward pass keeps nothing for gradients; a step is a forward pass that
    does, followed by a backward pass to all parameters. Plain torch runs in turn with the engine;
    it lacks symmetric padding and uses reflection instead. Memory is the peak growth of a fresh
    process after allocating its input and network.

    Example: msdtool bench --size 512 --depth 100 --figure costs.png
    """
    console.listen(quiet=quiet)
    if semifields:
        _check_semifield_options(context)
        _semifields((size or [256])[0], seconds if seconds is not None else DEFAULT_SECONDS, json)
        return
    for path, start in ((figure, PNG_START), (profile, b"{")):
        _check_writable(path, start)
    with no_collection():
        from msdtool.bench.cases import select_cases

    cases = select_cases(size or (), depth or (), width or (), ndim or (), padding, full)
    if seconds is None:
        seconds = FULL_SECONDS if full else DEFAULT_SECONDS
    if limit is None:
        limit = FULL_LIMIT if full else DEFAULT_LIMIT
    _networks(cases, device, seconds, limit, alone, figure, profile, json)


def _networks(
    cases: list["Case"],
    device: str,
    seconds: float,
    limit: float,
    alone: bool,
    figure: Path | None,
    profile: Path | None,
    json: bool,
) -> None:
    """Measure the cases and print, draw and write what was asked for."""
    from msdtool.bench.breakdown import profile_step
    from msdtool.bench.breakdown import table as kernel_table
    from msdtool.bench.correctness import check_engine
    from msdtool.bench.machine import machine_facts
    from msdtool.nn.device import choose_device

    where = choose_device(device)
    facts = machine_facts(where)
    facts["gpu"] = facts["device"] if where.type == "cuda" else "not measured"
    keep = _json_line if json else _nothing
    keep("machine", facts)
    errors = check_engine(where)
    log.info(f"correctness: {errors_text(errors)}")
    keep("correctness", errors)
    rows = _measure(cases, where, seconds, limit, alone, keep)
    for name in ("sgemm_gflops", "copy_gb_per_second"):
        facts[name] = max((row[name] or 0.0 for row in rows), default=0.0) or None
    kernels = _measure_kernels(cases[-1], where, facts, keep)
    if not json:
        console.result(f"{machine_text(facts)}\n{errors_text(errors)}\n\n{network_table(rows)}")
        if kernels:
            console.result(f"\nkernels of {cases[-1]}\n{kernel_table(kernels)}")
    if profile is not None:
        calls = profile_step(cases[-1], where, profile)
        if not json:
            console.result(calls)
    if figure is not None:
        from msdtool.report.costs import save_costs

        save_costs(figure, rows)


def _json_line(kind: str, value: Any) -> None:
    """Print a result at once: what follows may not end."""
    console.result_json({kind: value})


def _nothing(kind: str, value: Any) -> None:
    """Tables show everything at the end."""


def _measure(
    cases: list["Case"],
    device: "torch.device",
    seconds: float,
    limit: float,
    alone: bool,
    keep: Keep,
) -> list[dict[str, Any]]:
    """Measure the cases one after the other; log and keep each row as it comes."""
    from msdtool.bench.suite import run_suite

    rows: list[dict[str, Any]] = []
    with console.progress("bench") as bar:
        measured = run_suite(cases, device, seconds=seconds, limit=limit, alone=alone)
        for number, found in enumerate(measured):
            for row in found:
                log.info(str(row))
                rows.append(row.as_dict())
                keep("row", rows[-1])
            bar(number + 1, len(cases))
    return rows


def _check_semifield_options(context: typer.Context) -> None:
    """Raise ConfigError for options that do not apply to semifields."""
    for name in OF_NETWORKS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(
                f"--{name} and --semifields: choose one; semifields take --size and --seconds"
            )
    if len(context.params["size"] or ()) > 1:
        raise ConfigError("--semifields: takes one --size; run it once for each")


def _check_writable(path: Path | None, start: bytes) -> None:
    """Raise ConfigError for a place that cannot be written to: now, not after hours of work."""
    if path is not None:
        with cannot_write(path, ConfigError):
            check_place(path, start)


def _semifields(size: int, seconds: float, json: bool) -> None:
    from msdtool.bench.machine import machine_facts
    from msdtool.bench.semifield import SemifieldCase, run_semifields
    from msdtool.nn.device import choose_device

    facts = machine_facts(choose_device("cpu"))
    found = run_semifields(SemifieldCase(size), seconds)
    if json:
        _json_line("machine", facts)
        for of_semifield in found:
            for row in of_semifield:
                _json_line("row", row.as_dict())
        return
    rows = [row for of_semifield in found for row in of_semifield]
    facts["sgemm_gflops"] = None
    console.result(f"{machine_text(facts)}\n\n{semifield_table(rows)}")


def _measure_kernels(
    case: "Case", device: "torch.device", facts: dict[str, Any], keep: Keep
) -> list["KernelRow"]:
    """Measure a case's kernels one by one; none on a CPU, without CuPy or if nothing was timed."""
    from msdtool.bench.breakdown import measure_kernels
    from msdtool.bench.suite import FAILURES
    from msdtool.ops.cuda import launcher

    measured = facts["sgemm_gflops"] and facts["copy_gb_per_second"]
    if not measured or device.type != "cuda" or launcher.obstacle(device) is not None:
        return []
    peaks = 1e9 * facts["sgemm_gflops"], 1e9 * facts["copy_gb_per_second"]
    kernels: list[KernelRow] = []
    try:
        for kernel in measure_kernels(case, device, *peaks):
            keep("kernel", asdict(kernel))
            kernels.append(kernel)
    except FAILURES as error:
        log.warning(f"not all kernels were measured: {error}")
    return kernels

"""What `msdtool bench` prints: its tables and their legends."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msdtool.bench.semifield import SemifieldRow

SEMIFIELD_LEGEND = """\
One image of 16 channels, 8 kernels of 3x3, float32. Times are medians; a step is forward and
backward. memory: what a step adds at its peak. speed-up, share: relative to the broadcast
formulation."""


def semifield_table(rows: Sequence["SemifieldRow"]) -> str:
    """The rows of semifields as text, with a legend."""
    from msdtool.bench.timing import readable_time

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
    return f"{text}\n\n{SEMIFIELD_LEGEND}"


def errors_text(errors: dict[str, float]) -> str:
    """The errors of `msdtool.bench.correctness` as one sentence."""
    found = ", ".join(f"{error:.1e} in {dtype}" for dtype, error in errors.items())
    return f"largest relative error of outputs and gradients against the reference: {found}"


def machine_text(facts: dict[str, Any]) -> str:
    """The facts of `msdtool.bench.machine` as lines."""
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
forward passes. forward/sgemm, step/sgemm: fraction of the fastest matrix product, measured before
and after each case. step/limit: on a GPU, the least time that sgemm and a memory copy allow, by
count, over the time taken. memory: what a step adds at its peak; Y and G are all channels and their
gradients. ratio: the step's time over that of msdtool."""


def network_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of networks as text, with a legend."""
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

"""msdtool check"""

from typing import TYPE_CHECKING

import typer

from msdtool.cli import console
from msdtool.cli.imports import no_collection
from msdtool.cli.options import ConfigFile, Json, Overrides, Quiet
from msdtool.wording import size_text

if TYPE_CHECKING:
    from msdtool.check import Report

EXIT_PROBLEMS = 3


def command(
    config: ConfigFile,
    set_: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Examine an experiment's data without training.

    Shows how files are paired, their sizes, types and values, the label histogram and the memory
    that a training step takes. Exits with 3 if training would fail.

    Example: msdtool check denoise.yaml
    """
    with no_collection():
        from msdtool.check import check
        from msdtool.config import load_config

    console.listen(quiet=quiet)
    experiment = load_config(config, set_ or [], label="--set")
    with console.progress("check") as bar:
        report = check(experiment, bar)
    if json:
        console.result_json(report.to_dict())
    else:
        console.result_text(_text(report))
    if report.problems:
        raise typer.Exit(EXIT_PROBLEMS)


def _text(report: "Report") -> str:
    lines = []
    for name, pairs in report.pairs.items():
        lines.append(f"{name} pairs, the first {len(pairs)}:")
        lines += [f"  {input}  ->  {target}" for input, target in pairs]
    for stack, facts in report.stacks.items():
        sizes = {size_text(shape): count for shape, count in facts.shapes.items()}
        lines.append(
            f"{' '.join(stack)}: {facts.count} images, sizes {_counts(sizes)}, "
            f"types {_counts(facts.dtypes)}, values {facts.minimum:.6g} to "
            f"{facts.maximum:.6g}, mean {facts.mean:.6g}"
        )
    if report.label_counts:
        total = max(sum(report.label_counts.values()), 1)
        lines.append("labels in the training targets:")
        lines += [
            f"  {value}: {count} pixels, {100 * count / total:.2f} %"
            for value, count in report.label_counts.items()
        ]
    if report.input_channels:
        lines.append(_channels(report))
    lines.append(f"normalisation: {report.normalisation}")
    lines.append(f"memory of a training step: about {report.memory_bytes / 2**20:,.0f} MiB")
    lines += [f"warning: {warning}" for warning in report.warnings]
    lines += [f"problem: {problem}" for problem in report.problems]
    lines.append("training can start" if not report.problems else "training would fail")
    return "\n".join(lines)


def _channels(report: "Report") -> str:
    found = f"network: {report.input_channels} channels in, {report.output_channels} out"
    if report.slices > 1:
        found += f"; in are {report.slices} slices of {report.input_channels // report.slices}"
    return found


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:6]]
    return ", ".join(shown) + (" ..." if len(counts) > len(shown) else "")

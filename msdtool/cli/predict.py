"""msdtool predict"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msdtool.cli import console
from msdtool.cli.console import Json, LogEvery, Quiet
from msdtool.cli.parts import NumParts, PartIndex, choose_part
from msdtool.cli.signals import StopRequest
from msdtool.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from msdtool.predict import Job

ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A run directory (its best checkpoint) or a file.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def command(
    model: ModelPath,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, or - for stdin.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the results.")],
    part: PartIndex = None,
    num_parts: NumParts = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out results that are there.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Segmentation: also write each label's.")
    ] = False,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="Only print the inputs without results; exit 1 if any."),
    ] = False,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Apply a network to images; prints the path of each result.

    Results keep their input's name and end in .tif: float32 values, or label values. In a SLURM job
    array each task does its part of the images.

    Example: msdtool predict runs/denoise 'scan/*.tif' -o cleaned
    """
    from msdtool.predict import Predictor, check_outputs, plan_jobs, predict, unfinished

    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing: choose one")
    predictor = Predictor.load(model, device)
    if probabilities and predictor.label_map is None:
        raise ConfigError("--probabilities: the model is a regression, which has none")
    all_jobs = plan_jobs(_from_stdin(inputs), output, probabilities=probabilities)
    if missing:
        _print_missing(unfinished(all_jobs), json)
        return
    share = choose_part(part, num_parts, os.environ)
    jobs = all_jobs[share.index :: share.count]
    if not overwrite and not skip_existing:
        check_outputs(jobs, output)
    stop = StopRequest()
    with console.progress("predict", len(jobs), quiet=quiet, log_every=log_every) as bar:
        if share.count > 1:
            bar.say(f"{share}: {len(jobs)} of {len(all_jobs)} images")
        for count, done in enumerate(predict(predictor, jobs, skip_existing=skip_existing), 1):
            bar.update(count, done.job.input.name)
            if json:
                console.result_json(
                    {
                        "input": str(done.job.input),
                        "output": str(done.job.output),
                        "skipped": done.skipped,
                        "seconds": done.seconds,
                    }
                )
            else:
                console.result(str(done.job.output))
            if stop() and count < len(jobs):
                raise Stopped(
                    f"stopped after {count} of {len(jobs)} images; go on with --skip-existing",
                    stop.exit_code,
                )
        if share.count > 1:
            left = len(unfinished(all_jobs))
            bar.say(f"{left} of {len(all_jobs)} are still missing" if left else "all are there now")


def _print_missing(jobs: "list[Job]", json: bool) -> None:
    for job in jobs:
        if json:
            console.result_json({"input": str(job.input), "output": str(job.output)})
        else:
            console.result(str(job.input))
    if jobs:
        raise typer.Exit(1)


def _from_stdin(inputs: list[str]) -> list[str]:
    """Replace "-" by the lines of stdin."""
    paths = []
    for item in inputs:
        if item == "-":
            paths += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        else:
            paths.append(item)
    return paths

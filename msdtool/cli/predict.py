"""msdtool predict"""

import os
import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msdtool.cli import console
from msdtool.cli.console import Json, LogEvery, Quiet
from msdtool.cli.parts import NumParts, PartIndex, choose_part
from msdtool.cli.signals import StopRequest
from msdtool.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from msdtool.predict import Job, Prediction

ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A run directory (its best checkpoint) or a file.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def command(
    model: ModelPath,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, globs, a.h5::/data, '{path: ..., axes: ZCYX}', or - for stdin.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the results, or the result.")
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="Kind of the results: tif, h5, zarr, npy, or files (a folder with a TIFF per "
            "image). Default: by the name of the result, or as the input."
        ),
    ] = None,
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
    splits: Annotated[
        bool,
        typer.Option("--splits", help="Noise2Inverse: each INPUT is a split; average over them."),
    ] = False,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Average over the 8 symmetries of an image (volume: 8 flips)."),
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that the process may take, such as 2GB; larger images are computed in "
            "strips, with the same result. Default: what is free.",
        ),
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Room on disk for the channels of those.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Apply a network to images and volumes of any size; prints the path of each result.

    Results keep their input's name and kind of file: float32 values, or label values. A stopped
    command goes on where it was when it is given again, with --skip-existing for finished files. In
    a SLURM job array each task does its part of the files.

    Example: msdtool predict runs/denoise 'scan/*.tif' -o cleaned --memory 8GB
    """
    from msdtool.data.build import locate
    from msdtool.predict import Inputs, Predictor, check_outputs, plan_jobs, predict, unfinished
    from msdtool.predict.memory import parse_memory

    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing: choose one")
    limit = None if memory is None else parse_memory(memory)
    predictor = Predictor.load(model, device, memory_bytes=limit, scratch=scratch, augment=tta)
    if probabilities and predictor.label_map is None:
        raise ConfigError("--probabilities: the model is a regression, which has none")
    names = _from_stdin(inputs)
    sources = [locate([name]) for name in names] if splits else [locate(names)]
    all_jobs = plan_jobs(sources[0], output, probabilities=probabilities, format=format)
    if missing:
        _print_missing(unfinished(all_jobs), json)
        return
    share = choose_part(part, num_parts, os.environ)
    jobs = all_jobs[share.index :: share.count]
    if not overwrite and not skip_existing:
        check_outputs(jobs, output)
    stop = StopRequest()
    images = Inputs(predictor, sources)
    before = [0, *accumulate(len(images.images(job)) for job in jobs)]
    count = 0
    with console.progress("predict", before[-1], quiet=quiet, log_every=log_every) as bar:
        if share.count > 1:
            bar.say(f"{share}: {len(jobs)} of {len(all_jobs)} files")
        if predictor.model["splits"] and not splits:
            bar.say(
                f"the network was trained on {predictor.model['splits']} splits; each input is "
                "taken as a reconstruction of its own, --splits averages over splits"
            )
        done = predict(
            predictor,
            jobs,
            images,
            skip_existing=skip_existing,
            anew=overwrite,
            tick=lambda job, share: bar.update(before[job] + share, jobs[job].input.name),
            stop=stop,
        )
        for count, item in enumerate(done, 1):
            bar.update(before[count], item.job.input.name)
            _show(item, json)
            if stop():
                break
        if count < len(jobs):
            raise Stopped(
                f"stopped after {count} of {len(jobs)} files; go on with --skip-existing",
                stop.exit_code,
            )
        if share.count > 1:
            left = len(unfinished(all_jobs))
            bar.say(f"{left} of {len(all_jobs)} are still missing" if left else "all are there now")


def _show(item: "Prediction", json: bool) -> None:
    if not json:
        console.result(str(item.job.output))
        return
    console.result_json(
        {
            "input": str(item.job.location),
            "output": str(item.job.output),
            "skipped": item.skipped,
            "seconds": item.seconds,
        }
    )


def _print_missing(jobs: "list[Job]", json: bool) -> None:
    for job in jobs:
        if json:
            console.result_json({"input": str(job.location), "output": str(job.output)})
        else:
            console.result(str(job.location))
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

"""msdtool predict"""

import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msdtool.cli import console
from msdtool.cli.console import Json, Quiet
from msdtool.cli.signals import StopRequest
from msdtool.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from msdtool.predict import Prediction

ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A run directory (its best checkpoint) or a file.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def command(
    model: ModelPath,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, or - for stdin.")
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
    part: Annotated[int, typer.Option(help="Which part to do, from 0.")] = 0,
    num_parts: Annotated[int, typer.Option(min=1, help="Divide the inputs into parts.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out results that are there.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Segmentation: also write each label's.")
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
) -> None:
    """Apply a network to images and volumes of any size; prints the path of each result.

    Results keep their input's name and kind of file: float32 values, or label values. A stopped
    command goes on where it was when it is given again, with --skip-existing for finished files.

    Example: msdtool predict runs/denoise 'scan/*.tif' -o cleaned --memory 8GB
    """
    from msdtool.predict import Predictor, check_outputs, num_images, plan_jobs, predict
    from msdtool.predict.memory import parse_memory

    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing: choose one")
    limit = None if memory is None else parse_memory(memory)
    predictor = Predictor.load(model, device, memory_bytes=limit, scratch=scratch, augment=tta)
    if probabilities and predictor.label_map is None:
        raise ConfigError("--probabilities: the model is a regression, which has none")
    jobs = plan_jobs(
        _from_stdin(inputs),
        output,
        probabilities=probabilities,
        format=format,
        part=part,
        num_parts=num_parts,
    )
    if not overwrite and not skip_existing:
        check_outputs(jobs, output)
    stop = StopRequest()
    images = num_images(jobs, predictor.ndim)
    before = [0, *accumulate(images)]
    count = 0
    with console.progress("predict", before[-1], quiet=quiet) as bar:
        done = predict(
            predictor,
            jobs,
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


def _from_stdin(inputs: list[str]) -> list[str]:
    """Replace "-" by the lines of stdin."""
    paths = []
    for item in inputs:
        if item == "-":
            paths += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        else:
            paths.append(item)
    return paths

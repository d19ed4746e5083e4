"""msdtool predict"""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msdtool.cli import console
from msdtool.cli import watch as watching
from msdtool.cli.imports import no_collection
from msdtool.cli.inputs import from_stdin, one_per_split
from msdtool.cli.options import (
    Device,
    Json,
    LogEvery,
    ModelPath,
    NumParts,
    PartIndex,
    Quiet,
    ScaleInput,
    of_splits,
)
from msdtool.cli.parts import choose_part
from msdtool.cli.signals import StopRequest
from msdtool.errors import ConfigError, Stopped
from msdtool.file_errors import expand_home

if TYPE_CHECKING:
    from msdtool.data.specifiers import Specifier
    from msdtool.predict import Job, Prediction, Predictor

log = logging.getLogger(__name__)


def command(
    model: ModelPath,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files, folders, globs, a.h5::/data, '{path: ..., axes: ZCYX}', or - for stdin.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", help="The folder for the results, or the result."
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="tif|h5|zarr|npy|mrc|nii|png|files",
            help="Output format; png holds one image of uint8 or uint16, files is a folder with "
            "one TIFF per image (a slice, or a volume if the network works on volumes). Default: "
            "the one that --output names, or the input's.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="float32|float16|uint16|uint8|input",
            help="Type of the pixels; input: that of the input. Integers are rounded and clipped. "
            "Default: float32, or the smallest for all labels.",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH",
            help="The values for which the smallest and largest integer stand; slope and offset "
            "are recorded in the result.",
        ),
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(
            metavar="none|deflate|lzw|zstd|blosc",
            help="lzw is for TIFF, blosc for HDF5 and zarr. Default: zstd for zarr, none for "
            "others.",
        ),
    ] = None,
    stack: Annotated[
        bool,
        typer.Option("--stack", help="Make one volume of all inputs, slice by slice."),
    ] = False,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="Z0:Z1,Y0:Y1,X0:X1",
            help="Only this part of each volume, or Y0:Y1,X0:X1 of each image, counted from 0; "
            "equal to the same part of the whole result.",
        ),
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option(metavar="Z0:Z1", help="Only these slices of each volume, counted from 0."),
    ] = None,
    part: PartIndex = None,
    num_parts: NumParts = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip existing results.")
    ] = False,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Segmentation: also write per-class probabilities."),
    ] = False,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="MODEL",
            help="Average over this network, too; repeatable.",
        ),
    ] = None,
    spread: Annotated[
        bool,
        typer.Option(
            "--spread",
            help="Also write the standard deviation over networks, symmetries and splits.",
        ),
    ] = False,
    interval: Annotated[
        bool,
        typer.Option(
            "--interval",
            help="Also write the lower and upper bounds of a network with training.interval.",
        ),
    ] = False,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="Only list the inputs without results; exit 1 if any."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Keep running: predict images as they arrive in a folder, until stopped by a "
            "signal.",
        ),
    ] = False,
    idle: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="With --watch: stop after this long without a new image, such as 30s.",
        ),
    ] = None,
    splits: Annotated[
        bool,
        typer.Option(
            "--splits",
            help="Noise2Inverse: average over splits; each INPUT is one, or a pattern names all.",
        ),
    ] = False,
    scale_input: ScaleInput = 1.0,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Average over the 8 symmetries of an image (volume: 8 flips)."),
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that the process may use, such as 2GB; larger images are computed in "
            "strips, with the same result. Default: what is available.",
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory for temporary files of strip-wise prediction."),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Apply a network to images and volumes of any size; prints the path of each result.

    Results keep their input's name and file format: float32 values, or label values. Rerun a
    stopped command to resume it, with --skip-existing for finished files. In a SLURM job array
    each task processes its part of the files.

    Example: msdtool predict runs/denoise 'scan/*.tif' -o cleaned --memory 8GB
    """
    with no_collection():
        from msdtool.data.build import locate
        from msdtool.predict import Predictor, check_outputs, plan_jobs, unfinished
        from msdtool.predict.encoding import Encoding
        from msdtool.predict.memory import parse_memory
        from msdtool.predict.regions import Region

    console.listen(quiet=quiet)
    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing: choose one")
    if watch:
        options = {"overwrite": overwrite, "stack": stack, "splits": splits, "missing": missing}
        watching.check_options(output, idle, **options, num_parts=num_parts is not None)
    elif idle is not None:
        raise ConfigError("--idle: only --watch uses it")
    output = expand_home(output, ConfigError)
    memory_bytes = None if memory is None else parse_memory(memory)
    predictor = Predictor.load(
        model,
        device,
        memory_bytes=memory_bytes,
        scratch=scratch,
        tta=tta,
        scale_input=scale_input,
        ensemble=ensemble or (),
        spread=spread,
    )
    if probabilities and predictor.label_map is None:
        raise ConfigError("--probabilities: the model is for regression and has none")
    if interval and not predictor.model.interval:
        raise ConfigError("--interval: the model was trained without training.interval")
    encoding, part_of = Encoding.parse(dtype, scale), Region.parse(region, slices)
    encoding.check(predictor.model.labels)
    if stack and predictor.ndim != 2:
        raise ConfigError(
            "--stack: the network's images are volumes already; leave it out. Slices in files of "
            "their own are not a volume yet: save them as one file, such as a TIFF of many pages"
        )
    names = from_stdin(inputs)
    if not names:
        log.info("stdin names no files: nothing to do")
        return
    plan = partial(
        plan_jobs,
        output=output,
        stack=stack,
        probabilities=probabilities,
        spread=spread,
        interval=interval,
        format=format,
        pixels=predictor.pixels(encoding),
        encoding=encoding,
        compression=compress,
        region=part_of,
    )
    if watch:
        watching.run(predictor, names, plan, partial(_show, json=json), idle)
        return
    sources = one_per_split(names, predictor.model.splits) if splits else [locate(names)]
    all_jobs = plan(sources[0], other_splits=sources[1:])
    if missing:
        _print_missing(unfinished(all_jobs), json)
        return
    mine = choose_part(part, num_parts, os.environ)
    jobs = all_jobs[mine.index :: mine.count]
    check_outputs(jobs, output, skip_existing=skip_existing, overwrite=overwrite)
    if mine.count > 1:
        log.info(f"{mine}: {len(jobs)} of {len(all_jobs)} files")
    if predictor.model.splits and not splits:
        log.info(f"{of_splits(predictor.model.splits)}, --splits averages over splits")
    # Each file once, as in the job.
    read = [list(jobs[0].slices), *sources[1:]] if stack and jobs else sources
    _apply(predictor, jobs, read, skip_existing, overwrite, json, log_every)
    if mine.count > 1:
        left = len(unfinished(all_jobs))
        log.info(f"{left} of {len(all_jobs)} are still missing" if left else "all are complete")


def _apply(
    predictor: "Predictor",
    jobs: "list[Job]",
    sources: "Sequence[Specifier]",
    skip_existing: bool,
    overwrite: bool,
    json: bool,
    log_every: float | None,
) -> None:
    """Predict the jobs and print each result; raise Stopped after a signal."""
    from msdtool.predict import Inputs, predict

    stop, count = StopRequest(), 0
    with console.progress("predict", log_every=log_every) as bar:
        done = predict(
            predictor,
            jobs,
            Inputs(predictor, sources, jobs[0].region if jobs else None),
            skip_existing=skip_existing,
            overwrite=overwrite,
            progress=bar,
            stop=stop,
        )
        for item in done:
            count += 1
            _show(item, json)
            if stop():
                break
    if count < len(jobs):
        raise Stopped(
            f"stopped at file {count + 1} of {len(jobs)}, {jobs[count].location}; rerun with "
            "--skip-existing to resume",
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


def _print_missing(jobs: "list[Job]", json: bool) -> None:
    for job in jobs:
        for location in job.slices or [job.location]:
            if json:
                console.result_json({"input": str(location), "output": str(job.output)})
            else:
                console.result(str(location))
    if jobs:
        raise typer.Exit(1)

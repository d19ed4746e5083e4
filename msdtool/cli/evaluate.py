"""msdtool evaluate"""

import logging
import os
from collections.abc import Collection, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.atomic import PNG_START, check_place
from msdtool.cli import console
from msdtool.cli.imports import no_collection
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
from msdtool.cli.parts import Part, choose_part
from msdtool.errors import ConfigError, Error
from msdtool.file_errors import cannot_write
from msdtool.wording import bounds, number

if TYPE_CHECKING:
    from msdtool.runs.rundir import RunDirectory

log = logging.getLogger(__name__)


def command(
    model: ModelPath,
    input: Annotated[
        list[str],
        typer.Option(metavar="SPEC", help="Input images; for Noise2Inverse, once per split."),
    ],
    target: Annotated[str, typer.Option(metavar="SPEC", help="Target images.")],
    mask: Annotated[str | None, typer.Option(metavar="SPEC", help="Masks.")] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw input | output | target.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Segmentation: draw how often labels are right, over their probability.",
        ),
    ] = None,
    part: PartIndex = None,
    num_parts: NumParts = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="With --num-parts: shared folder for partial results.",
        ),
    ] = None,
    data_range: Annotated[
        float | None,
        typer.Option(
            metavar="RANGE",
            help="Value range that PSNR and SSIM refer to. Default: data.data_range of the "
            "training, if it was given, or that of the targets.",
        ),
    ] = None,
    scale_input: ScaleInput = 1.0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Measure a network on pairs of images, and the unprocessed inputs for comparison.

    In a SLURM job array each task measures its part of the images and writes the partial result
    to a shared folder; the task that finds all parts there prints the overall result. For a
    run directory, the result is saved in report/evaluation.json, where 'msdtool report' finds it.

    Example: msdtool evaluate runs/denoise --input 'test/noisy' --target 'test/clean'
    """
    with no_collection():
        from msdtool.data.build import locate
        from msdtool.evaluate import (
            PartFiles,
            draw,
            draw_reliability,
            evaluate,
            open_pairs,
            target_range,
        )
        from msdtool.predict import Predictor
        from msdtool.runs.checkpoint import find_model, load_checkpoint
        from msdtool.runs.rundir import RunDirectory

    console.listen(quiet=quiet)
    mine = choose_part(part, num_parts, os.environ)
    pictures = [picture for picture in (figure, calibration) if picture is not None]
    _check_options(mine, output, data_range, pictures)
    file = find_model(model)
    checkpoint = load_checkpoint(file)
    predictor = Predictor(checkpoint.model, device, str(file), scale_input=scale_input)
    pairs = open_pairs(
        predictor,
        [locate([split]) for split in input],
        locate([target]),
        None if mask is None else locate([mask]),
    )
    _check_pictures(pictures, pairs.paths)
    if calibration is not None and predictor.label_map is None:
        raise ConfigError("--calibration: the model is for regression and has no probabilities")
    if predictor.model.splits and len(input) == 1:
        log.info(f"{of_splits(predictor.model.splits)}, --input once per split averages over them")
    indices = range(mine.index, len(pairs), mine.count)
    if mine.count > 1:
        log.info(f"{mine}: {len(indices)} of {len(pairs)} images")
    data_range = data_range or checkpoint.data_range or target_range(predictor, pairs)
    files = None
    if output is not None:  # now, as the images may change meanwhile
        specifiers = {"input": input, "target": target, "mask": mask}
        files = PartFiles(output, predictor, specifiers, pairs, mine.count, data_range)
    with console.progress("evaluate", log_every=log_every) as bar:
        evaluation = evaluate(predictor, pairs, bar, indices, data_range)
    if files is not None:
        files.save(mine.index, evaluation)
        if files.missing:
            log.info(f"{len(files.missing)} of {mine.count} parts are still missing")
            console.result(str(files.path(mine.index)))
            return
        evaluation = files.load()
    results = evaluation.to_dict()
    if model.is_dir():
        named = {"inputs": input, "targets": target, "masks": mask}
        _keep(RunDirectory(model), {**named, **results})
    if json:
        console.result_json(results)
    else:
        console.result_text(_text(results))
    if figure is not None:
        draw(predictor, pairs, evaluation, figure)
    if calibration is not None:
        draw_reliability(evaluation, calibration)


def _check_options(
    mine: Part, output: Path | None, data_range: float | None, pictures: Sequence[Path]
) -> None:
    """Raise ConfigError for what cannot be: now, not after hours of work."""
    if mine.count > 1 and output is None:
        raise ConfigError(
            f"{mine}: pass --output, the shared folder for partial results; or --num-parts 1, to "
            "measure all images here"
        )
    if data_range is not None and not 0 < data_range < inf:
        raise ConfigError(f"--data-range: got {data_range:g}; expected a number above 0")
    if len({picture.resolve() for picture in pictures}) < len(pictures):
        raise ConfigError("--figure and --calibration: name two files")
    for picture in pictures:
        with cannot_write(picture):
            check_place(picture, PNG_START)


def _check_pictures(pictures: Sequence[Path], images: Collection[Path]) -> None:
    """Raise ConfigError if a picture would replace an image."""
    for picture in pictures:
        if picture.resolve() in images:
            raise ConfigError(
                f"{picture}: is one of the images; choose another name for the figure"
            )


def _keep(directory: "RunDirectory", results: dict[str, Any]) -> None:
    """Keep the results in the run directory, where 'msdtool report' finds them."""
    from msdtool.runs.evaluations import save_evaluation

    try:
        save_evaluation(directory, results)
    except Error as error:
        log.warning(f"{error.message}; 'msdtool report' cannot compare this evaluation")


def _text(results: dict[str, Any]) -> str:
    output, input, intervals = results["output"], results["input"], results["intervals"]
    lines = [["", "output", *(["input"] if input else []), "95 % interval"]]
    for name, value in output.items():
        if name == "surface_images":
            continue
        if isinstance(value, dict):
            for label, item in value.items():
                interval = bounds(intervals[name][label])
                lines.append([f"{name} {label}", number(item), interval])
            continue
        beside = [number(input.get(name, ""))] if input else []
        lines.append([name, number(value), *beside, bounds(intervals.get(name, ()))])
    count = len(results["images"])
    images = f"{count} image{'s' if count > 1 else ''}"
    kind = "means over" if results["confusion"] is None else "all pixels of"
    parts = [console.columns(lines), f"{kind} {images}"]
    if results["confusion"] is not None:
        parts += _surface_notes(output["surface_images"], count)
        error = results["calibration"]["expected_calibration_error"]
        parts.append(f"expected calibration error of the probabilities: {number(error)}")
        parts += ["", "pixels by label", console.confusion(results["confusion"])]
    return "\n".join(parts)


def _surface_notes(counts: dict[str, int], images: int) -> list[str]:
    """Say which means of surface distances leave out images."""
    return [
        f"hd95 and assd {label}: over {count} of {images} images, with this label in both output "
        "and target"
        for label, count in counts.items()
        if count < images
    ]

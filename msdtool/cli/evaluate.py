"""msdtool evaluate"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.cli import console
from msdtool.cli.console import Json, LogEvery, Quiet, number
from msdtool.cli.parts import NumParts, PartIndex, choose_part
from msdtool.cli.predict import Device, ModelPath
from msdtool.errors import ConfigError

if TYPE_CHECKING:
    from msdtool.evaluate import Evaluation


def command(
    model: ModelPath,
    input: Annotated[
        list[str],
        typer.Option(metavar="SPEC", help="Input images; of Noise2Inverse, once for each split."),
    ],
    target: Annotated[str, typer.Option(metavar="SPEC", help="Target images.")],
    mask: Annotated[str | None, typer.Option(metavar="SPEC", help="Masks.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw input | output | target as this PNG.")
    ] = None,
    part: PartIndex = None,
    num_parts: NumParts = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --num-parts: the folder where parts meet."),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Measure a network on pairs of images, beside the inputs as they are.

    In a SLURM job array each task measures its part of the images and writes it to a folder; the
    task that finds all parts there prints the result of all.

    Example: msdtool evaluate runs/denoise --input 'test/noisy' --target 'test/clean'
    """
    from msdtool.data.build import locate
    from msdtool.evaluate import PartFiles, draw, evaluate, open_pairs
    from msdtool.predict import Predictor

    share = choose_part(part, num_parts, os.environ)
    if share.count > 1 and output is None:
        raise ConfigError(
            f"{share}: give --output, the folder where the parts meet; or --num-parts 1, to "
            "measure all images here"
        )
    predictor = Predictor.load(model, device)
    pairs = open_pairs(
        predictor,
        [locate([split]) for split in input],
        locate([target]),
        None if mask is None else locate([mask]),
    )
    indices = range(share.index, len(pairs), share.count)
    with console.progress("evaluate", len(indices), quiet=quiet, log_every=log_every) as bar:
        if share.count > 1:
            bar.say(f"{share}: {len(indices)} of {len(pairs)} images")
        evaluation = evaluate(predictor, pairs, lambda number: bar.update(number + 1), indices)
        if output is not None:
            specifiers = {"input": input, "target": target, "mask": mask}
            files = PartFiles(output, predictor, specifiers, share.count)
            files.save(share.index, evaluation)
            if files.missing:
                bar.say(f"{len(files.missing)} of {share.count} parts are still missing")
                console.result(str(files.path(share.index)))
                return
            evaluation = files.load()
    if json:
        console.result_json(
            {
                "output": evaluation.output,
                "input": evaluation.input,
                "images": evaluation.images,
            }
        )
    else:
        console.result(_text(evaluation))
    if figure is not None:
        draw(predictor, pairs, evaluation, figure)


def _text(evaluation: "Evaluation") -> str:
    count = len(evaluation.images)
    lines = [f"{'':12}{'output':>12}" + (f"{'input':>12}" if evaluation.input else "")]
    for name, value in evaluation.output.items():
        if isinstance(value, dict):
            lines += [f"{name + ' ' + label:12}{number(item):>12}" for label, item in value.items()]
            continue
        line = f"{name:12}{number(value):>12}"
        if evaluation.input:
            line += f"{number(evaluation.input[name]):>12}"
        lines.append(line)
    kind: dict[bool, Any] = {True: "means over", False: "all pixels of"}
    lines.append(f"{kind['psnr' in evaluation.output]} {count} image{'s' if count > 1 else ''}")
    return "\n".join(lines)

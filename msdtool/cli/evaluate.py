"""msdtool evaluate"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.cli import console
from msdtool.cli.console import Json, Quiet, number
from msdtool.cli.predict import Device, ModelPath

if TYPE_CHECKING:
    from msdtool.evaluate import Evaluation


def command(
    model: ModelPath,
    input: Annotated[str, typer.Option(metavar="SPEC", help="Input images.")],
    target: Annotated[str, typer.Option(metavar="SPEC", help="Target images.")],
    mask: Annotated[str | None, typer.Option(metavar="SPEC", help="Masks.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw input | output | target as this PNG.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a network on pairs of images, beside the inputs as they are.

    Example: msdtool evaluate runs/denoise --input 'test/noisy' --target 'test/clean'
    """
    from msdtool.evaluate import draw, evaluate, open_pairs
    from msdtool.predict import Predictor

    predictor = Predictor.load(model, device)
    pairs = open_pairs(predictor, input, target, mask)
    with console.progress("evaluate", len(pairs), quiet=quiet) as bar:
        evaluation = evaluate(predictor, pairs, lambda index: bar.update(index + 1))
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

"""msdtool import"""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from msdtool.cli import console
from msdtool.cli.console import Json, Quiet
from msdtool.errors import ConfigError


class Task(str, Enum):
    """What a network is for."""

    REGRESSION = "regression"
    SEGMENTATION = "segmentation"


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .torch file of msd_pytorch, .h5 of msdnet.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint to write.")],
    task: Annotated[Task | None, typer.Option(help="Where the file does not say.")] = None,
    dilations: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Of msd_pytorch, such as 1,2,4,8. Default: 1 to 10."),
    ] = None,
    data_range: Annotated[
        float, typer.Option(help="Value range that PSNR and SSIM shall refer to.")
    ] = 1.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a checkpoint of a network that msd_pytorch or msdnet has trained.

    Weights, normalisation and border rule are taken over, so that outputs are the same. A file of
    msd_pytorch does not name its dilations: give those that the network was made with.

    Example: msdtool import weights.torch -o denoise.pt && msdtool predict denoise.pt scan -o out
    """
    from msdtool.foreign import import_model
    from msdtool.runs.checkpoint import save_checkpoint

    if output.exists():
        raise ConfigError(f"{output}: exists already; choose another name or remove it")
    if not data_range > 0:
        raise ConfigError(f"--data-range: got {data_range:g}; expected a number above 0")
    checkpoint, origin = import_model(
        file,
        task=None if task is None else task.value,
        dilations=None if dilations is None else _parse(dilations),
        data_range=data_range,
    )
    save_checkpoint(output, checkpoint)
    model = checkpoint["model"]
    architecture = model["architecture"]
    if not quiet:
        facts = {"from": origin, "task": model["task"], **architecture}
        typer.echo(console.table(facts), err=True)
    if origin == "msd_pytorch" and dilations is None:
        console.warn(
            "msd_pytorch does not save dilations; 1 to 10 are taken, its default; give --dilations "
            "if the network was made with others"
        )
    if json:
        console.result_json(
            {"checkpoint": str(output), "from": origin, "task": model["task"], **architecture}
        )
    else:
        console.result(str(output))


def _parse(text: str) -> list[int]:
    numbers = text.replace("[", "").replace("]", "").split(",")
    if not all(number.strip().isdecimal() and int(number) for number in numbers):
        raise ConfigError(f"--dilations: got {text!r}; expected numbers such as 1,2,4,8")
    return [int(number) for number in numbers]

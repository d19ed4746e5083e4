"""msdtool import"""

import logging
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from msdtool.cli import console
from msdtool.cli.imports import no_collection
from msdtool.cli.options import Json, Quiet
from msdtool.errors import ConfigError

log = logging.getLogger(__name__)


class Task(StrEnum):
    """What a network is for."""

    REGRESSION = "regression"
    SEGMENTATION = "segmentation"


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .torch file of msd_pytorch or an .h5 file of msdnet."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The checkpoint to write.")
    ],
    task: Annotated[
        Task | None, typer.Option(help="Required if the file does not record the task.")
    ] = None,
    dilations: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="For msd_pytorch, such as 1,2,4,8. Default: 1 to 10."),
    ] = None,
    data_range: Annotated[
        float, typer.Option(metavar="RANGE", help="The value range that PSNR and SSIM refer to.")
    ] = 1.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Import a network trained with msd_pytorch or msdnet as a checkpoint.

    Weights, normalisation and padding are imported, so that outputs are the same. A file of
    msd_pytorch does not record its dilations: pass those that the network was made with.

    Example: msdtool import weights.torch -o denoise.pt && msdtool predict denoise.pt scan -o out
    """
    with no_collection():
        from msdtool.foreign import import_model
        from msdtool.runs.checkpoint import save_checkpoint

    console.listen(quiet=quiet)
    if output.exists():
        raise ConfigError(f"{output}: already exists; choose another name or remove it")
    if not 0 < data_range < inf:
        raise ConfigError(f"--data-range: got {data_range:g}; expected a number above 0")
    checkpoint, origin = import_model(
        file,
        task=None if task is None else task.value,
        dilations=None if dilations is None else _parse(dilations),
        data_range=data_range,
    )
    save_checkpoint(output, checkpoint)
    model = checkpoint.model
    architecture = model.architecture.to_dict()
    log.info(console.table({"from": origin, "task": model.task, **architecture}))
    if origin == "msd_pytorch" and dilations is None:
        log.warning(
            "msd_pytorch does not save dilations; its default, 1 to 10, is assumed; pass "
            "--dilations if the network was made with others"
        )
    if json:
        console.result_json(
            {"checkpoint": str(output), "from": origin, "task": model.task, **architecture}
        )
    else:
        console.result(str(output))


def _parse(text: str) -> list[int]:
    numbers = [number.strip() for number in text.replace("[", "").replace("]", "").split(",")]
    if not all(number.isdecimal() and len(number) < 10 and int(number) for number in numbers):
        raise ConfigError(f"--dilations: got {text!r}; expected numbers such as 1,2,4,8")
    return [int(number) for number in numbers]

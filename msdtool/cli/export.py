"""msdtool export"""

import logging
from pathlib import Path
from typing import Annotated

import typer

from msdtool.cli import console
from msdtool.cli.imports import no_collection
from msdtool.cli.options import Json, ModelPath, Quiet

log = logging.getLogger(__name__)


def command(
    model: ModelPath,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The file to write: .onnx, .pt2 or .zip."
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a network for programs that do not know msdtool.

    The suffix tells the format: .onnx for ONNX, .pt2 for torch.export, .zip for a package of the
    BioImage Model Zoo. The exported network takes raw values and scales them itself; it returns
    values, or of a segmentation probabilities and labels.

    Example: msdtool export runs/denoise -o denoise.onnx
    """
    with no_collection():
        from msdtool.export import export

    console.listen(quiet=quiet)
    exported = export(model, output, overwrite=overwrite)
    log.info("\n".join(exported.interface.sentences()))
    if json:
        console.result_json(exported.to_dict())
    else:
        console.result(str(exported.file))

"""msdtool demo"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from msdtool.cli import console
from msdtool.cli.options import Quiet


class Dataset(StrEnum):
    """What can be made."""

    TOMOGRAMS = "tomograms"
    SHAPES = "shapes"
    NOISE2INVERSE = "noise2inverse"


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to.")
    ],
    dataset: Annotated[
        Dataset, typer.Argument(metavar="DATASET", help="Which data set to make.")
    ] = Dataset.TOMOGRAMS,
    quiet: Quiet = False,
) -> None:
    """Make a small data set and a config to train on it; prints the config's path.

    tomograms: photographs and micrographs, scanned by a simulated low-dose, few-view tomograph, to
    be cleaned. shapes: squares, frames, discs and rings in strong noise, to be segmented.
    noise2inverse: a simulated scan of foam in four noisy sub-reconstructions, to be denoised
    without clean images.

    Example: msdtool demo shapes -o shapes
    """
    console.listen(quiet=quiet)
    if dataset is Dataset.TOMOGRAMS:
        from msdtool.demo.tomograms import write_tomograms

        with console.progress("scan") as bar:
            config = write_tomograms(output, bar)
    elif dataset is Dataset.NOISE2INVERSE:
        from msdtool.demo.foam import write_foam

        with console.progress("scan") as bar:
            config = write_foam(output, bar)
    else:
        from msdtool.demo.shapes import write_shapes

        with console.progress("draw") as bar:
            config = write_shapes(output, bar)
    console.result(str(config))

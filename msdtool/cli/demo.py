"""msdtool demo"""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from msdtool.cli import console
from msdtool.cli.console import Quiet


class DataSet(str, Enum):
    """The data sets there are."""

    TOMOGRAMS = "tomograms"
    SHAPES = "shapes"
    NOISE2INVERSE = "noise2inverse"


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")],
    data_set: Annotated[DataSet, typer.Argument(help="Which data set.")] = DataSet.TOMOGRAMS,
    quiet: Quiet = False,
) -> None:
    """Write a small data set and a config to train on it; prints the config's path.

    tomograms: photographs and micrographs, measured by a simulated low-dose, few-view tomograph,
    to be cleaned. shapes: squares, frames, discs and rings in strong noise, to be labelled.
    noise2inverse: a simulated scan of foam in four noisy sub-reconstructions, to be denoised
    without clean images.

    Example: msdtool demo shapes -o shapes
    """
    if data_set is DataSet.TOMOGRAMS:
        from msdtool.demo.tomograms import NUM_IMAGES, write_tomograms

        with console.progress("scan", NUM_IMAGES, quiet=quiet) as bar:
            config = write_tomograms(output, bar.update)
    elif data_set is DataSet.NOISE2INVERSE:
        from msdtool.demo.foam import NUM_SLICES, write_foam

        with console.progress("scan", NUM_SLICES, quiet=quiet) as bar:
            config = write_foam(output, bar.update)
    else:
        from msdtool.demo.shapes import NUM_IMAGES as NUM_DRAWINGS
        from msdtool.demo.shapes import write_shapes

        with console.progress("draw", NUM_DRAWINGS, quiet=quiet) as bar:
            config = write_shapes(output, bar.update)
    console.result(str(config))

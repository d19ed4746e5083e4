"""msdtool demo"""

from pathlib import Path
from typing import Annotated

import typer

from msdtool.cli import console
from msdtool.cli.console import Quiet


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")],
    quiet: Quiet = False,
) -> None:
    """Write a small real data set and a config to train on it.

    Photographs and micrographs are measured by a simulated low-dose, few-view tomograph and
    reconstructed by filtered back-projection; a network learns to clean such reconstructions.

    Example: msdtool demo -o demo
    """
    from msdtool.demo import NUM_IMAGES, write_demo

    with console.progress("scan", NUM_IMAGES, quiet=quiet) as bar:
        config = write_demo(output, bar.update)
    console.result(str(config))

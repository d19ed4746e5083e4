"""msdtool resolution"""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from msdtool.atomic import PNG_START, check_place
from msdtool.cli import console
from msdtool.cli.imports import no_collection
from msdtool.cli.options import Json, LogEvery, Quiet
from msdtool.errors import ConfigError
from msdtool.file_errors import cannot_write
from msdtool.wording import number

log = logging.getLogger(__name__)


def command(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="Images of one half of the data.")],
    second: Annotated[
        str, typer.Argument(metavar="SECOND", help="Images of the other half, in the same order.")
    ],
    ndim: Annotated[
        int, typer.Option(metavar="2|3", help="Whether an image has two or three spatial axes.")
    ] = 2,
    disc: Annotated[
        bool,
        typer.Option(
            "--disc", help="Ignore pixels outside the largest disc, or ball, of an image."
        ),
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the correlation.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Measure the resolution of images from two halves of the data; no clean image is needed.

    The halves show the same object with noise of their own: reconstructions of even and odd
    projections, or a network's outputs for them. Their Fourier ring correlation (with --ndim 3,
    shell correlation) falls where noise begins to prevail.

    Example: msdtool resolution 'even/*.tif' 'odd/*.tif' --figure rings.png
    """
    if ndim not in (2, 3):
        raise ConfigError(f"--ndim: got {ndim}; allowed: 2, 3")
    if figure is not None:
        with cannot_write(figure):
            check_place(figure, PNG_START)
    with no_collection():
        from msdtool.data import ImageStack
        from msdtool.data.build import locate
        from msdtool.resolution import measure_resolution

    console.listen(quiet=quiet)
    halves = [ImageStack(locate([text]), ndim=ndim) for text in (first, second)]
    if figure is not None and figure.resolve() in {
        path.resolve() for half in halves for path in half.paths
    }:
        raise ConfigError(f"{figure}: is one of the images; choose another name for the figure")
    with console.progress("resolution", log_every=log_every) as bar:
        found = measure_resolution(halves[0], halves[1], disc=disc, progress=bar)
    if found.disagreeing is not None:
        one, other = found.disagreeing
        log.warning(
            f"{one} is paired with {other}: the names disagree; files are paired in natural order, "
            "is one missing?"
        )
    results = found.to_dict()
    if figure is not None:
        from msdtool.report.rings import save_correlation

        save_correlation(figure, results)
    if json:
        console.result_json(results)
    else:
        console.result(_text(results))


def _text(results: dict[str, Any]) -> str:
    unit = results["unit"]
    lines = [["threshold", "resolution"]]
    for name, length in results["resolution"].items():
        if length is None:
            said = "none: the halves do not correlate"
        elif length == results["nyquist"]:
            said = f"{number(length)} {unit} or less: all that such pixels can show"
        else:
            said = f"{number(length)} {unit}"
        lines.append([name, said])
    return console.columns(lines)

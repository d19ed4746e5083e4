"""msdtool view"""

import logging
from pathlib import Path
from typing import Annotated

import typer

from msdtool.atomic import check_place
from msdtool.cli import console
from msdtool.cli.imports import no_collection
from msdtool.cli.options import LogEvery, Quiet
from msdtool.errors import ConfigError
from msdtool.file_errors import cannot_write

log = logging.getLogger(__name__)

MAX_KINDS = 6
"""Kinds of images on a page; more are files of a pattern that was not quoted."""


def command(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES",
            help="Images of one kind: a file, a folder or a quoted pattern. The first are the "
            "input, others are results for it, in the same order.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="HTML", help="The page to write.")
    ],
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images or slices on the page, chosen evenly.")
    ] = 12,
    size: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            min=16,
            help="Larger images are reduced to this; their centre is also shown in full size.",
        ),
    ] = 512,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH",
            help="The values of black and white. Default: those of the last images.",
        ),
    ] = None,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """Compare images with results for them, on one page with a slider; prints its path.

    The page is one file that any browser opens and that needs no other: it can be sent to people.

    Example: msdtool view 'scan/*.tif' cleaned -o view.html
    """
    with no_collection():
        from msdtool.data import ImageStack
        from msdtool.data.build import locate
        from msdtool.data.pair_names import disagreeing_pairs
        from msdtool.report.html import HTML_START
        from msdtool.view import Kind, save_view

    console.listen(quiet=quiet)
    if len(images) > MAX_KINDS:
        raise ConfigError(
            f"IMAGES: got {len(images)}; allowed: up to {MAX_KINDS}. Quote patterns, as in "
            "'scan/*.tif', so that the shell does not make many of one"
        )
    limits = None if window is None else _parse_window(window)
    with cannot_write(output):
        check_place(output, HTML_START)
    kinds = [Kind(text, ImageStack(locate([text]))) for text in images]
    with console.progress("view", log_every=log_every) as bar:
        save_view(output, kinds, count=count, size=size, window=limits, progress=bar)
    for one, other in disagreeing_pairs([kind.images.paths for kind in kinds])[:1]:
        log.warning(
            f"{one.name} is paired with {other.name}: the names disagree; files are paired in "
            "natural order, is one missing?"
        )
    console.result(str(output))


def _parse_window(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high < float("inf") or low == -float("inf"):
        raise ConfigError(f"--window: got {text}; expected LOW:HIGH, such as 0:1.5")
    return low, high

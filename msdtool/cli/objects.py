"""msdtool objects"""

import csv
import io
from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msdtool.cli import console
from msdtool.cli.imports import no_collection
from msdtool.cli.inputs import from_stdin
from msdtool.cli.options import LogEvery, Quiet
from msdtool.errors import ConfigError

if TYPE_CHECKING:
    from msdtool.data.spacing import Spacing
    from msdtool.objects import Object


def command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Images of labels: files, folders, globs, or - for stdin."
        ),
    ],
    ndim: Annotated[
        int, typer.Option(metavar="2|3", help="Whether an image has two or three spatial axes.")
    ] = 2,
    background: Annotated[
        int, typer.Option(metavar="LABEL", help="The label of pixels that belong to no object.")
    ] = 0,
    smallest: Annotated[
        int, typer.Option(metavar="PIXELS", min=1, help="Leave out objects of fewer pixels.")
    ] = 1,
    corners: Annotated[
        bool, typer.Option("--corners", help="Also connect pixels that only share a corner.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a line of JSON per object.")] = False,
    quiet: Quiet = False,
    log_every: LogEvery = None,
) -> None:
    """List the objects in segmented images with their sizes and positions, as CSV.

    An object is what is connected and has one label. Sizes and positions are in the unit that a
    file states, positions from its first pixel; boxes are in pixels. Volumes need not fit in
    memory.

    Example: msdtool objects 'labels/*.tif' --smallest 20 > objects.csv
    """
    if ndim not in (2, 3):
        raise ConfigError(f"--ndim: got {ndim}; allowed: 2, 3")
    with no_collection():
        from msdtool.data.build import locate
        from msdtool.data.spacing import spacing
        from msdtool.objects import LabelStack, find_objects

    console.listen(quiet=quiet)
    stack = LabelStack(locate(from_stdin(inputs)), ndim=ndim)
    axes = "zyx"[-ndim:]
    if not json:
        console.result(_line(_columns(axes)))
    with console.progress("objects", log_every=log_every) as bar:
        for index, location in enumerate(stack.locations):
            pixel = spacing(location, ndim)
            found = find_objects(
                stack,
                index,
                background=background,
                smallest=smallest,
                corners=corners,
                progress=bar,
            )
            for number, item in enumerate(found, 1):
                values = [stack.name(index), number, *_values(item, pixel)]
                if json:
                    console.result_json(dict(zip(_columns(axes), values, strict=True)))
                else:
                    console.result(_line(values))


def _columns(axes: str) -> list[str]:
    size = "area" if len(axes) == 2 else "volume"
    boxes = (f"{end}_{axis}" for end in ("first", "last") for axis in axes)
    return ["image", "object", "label", "pixels", size, "unit", *axes, *boxes]


def _values(item: "Object", pixel: "Spacing") -> list[Any]:
    """The label, pixels, size, unit, position and box of an object."""
    position = (place * size for place, size in zip(item.position, pixel.sizes, strict=True))
    size = item.pixels * prod(pixel.sizes)
    return [item.label, item.pixels, size, pixel.unit, *position, *item.first, *item.last]


def _line(values: Iterable[Any]) -> str:
    """A line of CSV; numbers are rounded to seven digits."""
    text = io.StringIO()
    rounded = (f"{value:.7g}" if isinstance(value, float) else value for value in values)
    csv.writer(text, lineterminator="").writerow(rounded)
    return text.getvalue()

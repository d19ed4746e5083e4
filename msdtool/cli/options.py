"""The arguments and options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The experiment, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, such as training.epochs=20. Repeatable.",
    ),
]
ModelPath = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A run directory (its best checkpoint) or a checkpoint file."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="auto|cpu|cuda", help="Where to compute; auto: on a GPU if possible."
    ),
]
PartIndex = Annotated[
    int | None,
    typer.Option(
        "--part",
        metavar="INDEX",
        min=0,
        help="Which part to process, from 0. Default: the SLURM array task.",
    ),
]
ScaleInput = Annotated[
    float,
    typer.Option(
        "--scale-input",
        metavar="FACTOR",
        help="Multiply the inputs by this, such as 65535, if the network was trained on another "
        "unit.",
    ),
]
NumParts = Annotated[
    int | None,
    typer.Option(
        "--num-parts",
        metavar="COUNT",
        min=1,
        help="Split the files into this many parts. Default: the SLURM array tasks.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only warnings, errors and results.")
]
LogEvery = Annotated[
    float | None,
    typer.Option(
        "--log-every",
        metavar="SECONDS",
        min=0,
        help="Print plain lines this often instead of a bar. Default off a terminal: 10.",
    ),
]


def of_splits(count: int) -> str:
    """What happens where a network that was trained on splits gets one input."""
    return (
        f"the network was trained on {count} splits; each input is treated as a separate "
        "reconstruction"
    )

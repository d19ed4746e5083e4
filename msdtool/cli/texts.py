"""Commands whose result is a text: on stdout, or in a new file."""

from pathlib import Path
from typing import Annotated

import typer

from msdtool.atomic import atomic_path
from msdtool.cli import console
from msdtool.errors import ConfigError
from msdtool.file_errors import cannot_write

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file, not to stdout."),
]


def show(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file and print its name.

    Raises:
        ConfigError: the file exists.
    """
    if output is None:
        console.result(text.rstrip())
        return
    if output.exists():
        raise ConfigError(f"{output}: already exists; choose another name or remove it")
    with cannot_write(output), atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    console.result(str(output))

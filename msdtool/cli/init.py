"""msdtool init"""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from msdtool.atomic import atomic_path
from msdtool.cli import console
from msdtool.cli.console import Quiet
from msdtool.errors import ConfigError
from msdtool.resources import resource_folder


class Template(str, Enum):
    """The kinds of experiment there is a template for."""

    DENOISE = "denoise"
    SEGMENT = "segment"
    SEQUENCE = "sequence"
    VOLUME = "volume"


def command(
    template: Annotated[
        Template, typer.Argument(help="The kind of experiment.")
    ] = Template.DENOISE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write this file instead of to stdout.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a commented config to start from.

    Example: msdtool init segment -o cells.yaml
    """
    text = (resource_folder("configs") / f"{template.value}.yaml").read_text(encoding="utf-8")
    if output is None:
        console.result(text.rstrip())
        return
    if output.exists():
        raise ConfigError(f"{output}: exists already; choose another name or remove it")
    try:
        with atomic_path(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise ConfigError(f"{output}: cannot be written: {problem.strerror}") from None
    console.result(str(output))

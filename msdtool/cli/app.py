"""The program: its commands, and how errors become messages and exit codes."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from traceback import print_exc
from typing import Annotated, Any

import typer

from msdtool.cli import (
    bench,
    check,
    demo,
    doctor,
    evaluate,
    import_,
    info,
    init,
    predict,
    report,
    train,
)
from msdtool.cli.console import error
from msdtool.errors import Error, FailedElsewhere, Stopped

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="msdtool",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Deal with Ctrl-C and a closed pipe, which Typer would make wordless exits."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            raise Stopped("interrupted", EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output, `head` for example, has enough; that is no failure.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return run


COMMANDS = (
    init,
    check,
    train,
    predict,
    evaluate,
    info,
    report,
    import_,
    demo,
    bench,
    doctor,
)
for module in COMMANDS:
    name = module.__name__.rsplit(".", 1)[-1].rstrip("_")  # import is a word of Python
    app.command(name=name)(_guarded(module.command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"msdtool {version('msdtool')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")
    ] = False,
) -> None:
    """Train and apply Mixed-Scale Dense networks: denoise, clean and segment images.

    Start with: msdtool init denoise -o denoise.yaml

    Exit codes: 0 done; 1 the work failed; 2 usage or config; 3 data or model file; 75 stopped by
    a signal with a checkpoint saved; 130 interrupted.
    """


def main() -> None:
    """Run the program and exit with its code; errors are one message, not a traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    if "OMP_WAIT_POLICY" not in os.environ:
        # GNU OpenMP's threads spin for milliseconds before they sleep, and so take the cores from
        # other processes that want them; without spinning, each small operation waits for them to
        # wake. A tenth of a millisecond costs little either way. Torch reads it when imported.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app(arguments, prog_name="msdtool", standalone_mode=True)
    except Error as problem:
        if debug:
            print_exc()
        if not isinstance(problem, FailedElsewhere):
            error(problem.message)
        sys.exit(problem.exit_code)
    except OSError as problem:
        if debug:
            print_exc()
        place = f"{problem.filename}: " if problem.filename else ""
        error(f"{place}{problem.strerror or problem}")
        sys.exit(1)
    except Exception as problem:
        if debug:
            print_exc()
        error(f"unexpected {type(problem).__name__}: {problem}; run again with --debug for details")
        sys.exit(1)

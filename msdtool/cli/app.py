"""The program: its commands, and how errors become messages and exit codes."""

import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from traceback import print_exc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import msdtool
from msdtool.cli import (
    bench,
    check,
    console,
    demo,
    doctor,
    evaluate,
    export,
    import_,
    info,
    init,
    objects,
    predict,
    report,
    resolution,
    schema,
    sweep,
    train,
    view,
)
from msdtool.cli.hints import hint
from msdtool.errors import ConfigError, Error, FailedElsewhere, Stopped

EXIT_INTERRUPTED = 130
_UsageError: Any = typer.BadParameter.__base__
"""What Typer raises for a command line that is wrong."""
RENAMED = {"bench": {"--plot": "--figure"}}  # options of a command, each with its present name

app = typer.Typer(
    name="msdtool",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Command(TyperCommand):
    """A command whose help shows arguments as shells do: `INPUT...`, not `{INPUT}...`."""

    def get_usage(self, ctx: Any) -> str:
        """Return the line that errors begin with."""
        return _without_braces(super().get_usage(ctx))

    def get_help(self, ctx: Any) -> str:
        """Return the whole help; arguments are shown by name, not by their type in Python."""
        text = _without_braces(super().get_help(ctx))
        return re.sub(
            r"<(?:list\[\w+\]|str|int|float|bool)>", lambda found: " " * len(found[0]), text
        )


def _without_braces(text: str) -> str:
    return re.sub(r"\{(\w+)\}", r"\1", text)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Handle Ctrl-C and a closed pipe, which Typer would turn into silent exits."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            raise Stopped("interrupted", EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output, such as `head`, has enough; that is not a failure.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return run


COMMANDS = (
    init,
    schema,
    check,
    train,
    sweep,
    predict,
    evaluate,
    objects,
    resolution,
    info,
    report,
    view,
    import_,
    export,
    demo,
    bench,
    doctor,
)
for module in COMMANDS:
    name = module.__name__.rsplit(".", 1)[-1].rstrip("_")  # import is a keyword of Python
    app.command(name=name, cls=_Command)(_guarded(module.command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"msdtool {msdtool.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may be given anywhere on the line.")
    ] = False,
    _verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Tell more: files, engine, locks; may be given anywhere."
        ),
    ] = False,
) -> None:
    """Train and apply Mixed-Scale Dense networks: denoise, clean and segment images.

    Start with: msdtool init denoise -o denoise.yaml

    Exit codes: 0 done; 1 the work failed; 2 usage or config; 3 data or model file; 75 stopped by
    a signal with a checkpoint saved; 130 interrupted.
    """


def _refuse_renamed(arguments: list[str]) -> None:
    """Raise ConfigError for an option that has a new name."""
    command, *options = arguments or [""]
    for old, new in RENAMED.get(command, {}).items():
        if any(option.partition("=")[0] == old for option in options):
            raise ConfigError(f"{old}: this option is now called {new}")


def _taken(arguments: list[str], *names: str) -> tuple[list[str], bool]:
    """The arguments without a flag of these names, and whether it was there; not beyond "--"."""
    stop = arguments.index("--") if "--" in arguments else len(arguments)
    rest = [argument for argument in arguments[:stop] if argument not in names]
    return rest + arguments[stop:], len(rest) < stop


def main() -> None:
    """Run the program and exit with its code; errors are one message, not a traceback."""
    arguments, debug = _taken(sys.argv[1:], "--debug")
    arguments, verbose = _taken(arguments, "--verbose", "-v")
    console.accept_all_names()
    console.be_verbose(verbose)
    console.listen()
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads of GNU OpenMP spin for milliseconds before they sleep and so take the cores from
        # other processes; without spinning, each small operation waits for them to wake up. A tenth
        # of a millisecond costs little either way. Torch reads it when imported.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        _refuse_renamed(arguments)
        code = app(arguments, prog_name="msdtool", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except _UsageError as problem:
        _show_usage(problem, arguments)
        sys.exit(problem.exit_code)
    except Exception as problem:
        if debug:
            print_exc()
        message, exit_code = _explain(problem)
        if message:
            console.error(message)
        sys.exit(exit_code)


def _show_usage(problem: Any, arguments: list[str]) -> None:
    """Print what is wrong with a command line, in the words of all other errors."""
    if not arguments:
        problem.show()  # the help
        return
    if problem.ctx is not None:
        print(problem.ctx.get_usage(), file=sys.stderr)
    console.error(f"{problem.format_message().rstrip('.')}; see {_command_of(problem)} --help")


def _command_of(problem: Any) -> str:
    return "msdtool" if problem.ctx is None else str(problem.ctx.command_path)


def _explain(problem: Exception) -> tuple[str, int]:
    """Return the message about an error, empty if another process prints it, and the exit code."""
    if isinstance(problem, FailedElsewhere):
        return "", problem.exit_code
    if isinstance(problem, Error):
        return problem.message + hint(problem.hint_key), problem.exit_code
    if isinstance(problem, OSError):
        place = f"{problem.filename}: " if problem.filename else ""
        return f"{place}{problem.strerror or problem}", 1
    name = type(problem).__name__
    return f"unexpected {name}: {problem}; run again with --debug for details", 1

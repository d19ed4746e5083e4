"""What people see while a command works: logs on stderr, bars on a terminal, plain lines elsewhere.

Results go to stdout through `result`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from msdtool import strict_json

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors and results.")]
LogEvery = Annotated[
    float | None,
    typer.Option(
        "--log-every",
        metavar="SECONDS",
        min=0,
        help="Plain lines this often instead of a bar. Default off a terminal: 10.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

SECONDS_BETWEEN_LINES = 10.0

_stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def error(message: str) -> None:
    """Print an error; one of several lines is indented below the first."""
    text = message.replace("\n", "\n       ")
    _stderr.print(Text.assemble(("error: ", "bold red"), text))


def warn(message: str) -> None:
    """Print a warning."""
    _stderr.print(Text.assemble(("warning: ", "yellow"), message))


def result(text: str) -> None:
    """Print a result."""
    print(text, flush=True)


def result_json(value: Any) -> None:
    """Print a result as one line of JSON; what is not a number there becomes null."""
    print(strict_json.dumps(value), flush=True)


class Bar(Protocol):
    """Shows how far work has come."""

    def say(self, message: str) -> None:
        """Print a line of log."""

    def update(self, completed: float, note: str = "", total: int | None = None) -> None:
        """Show that ``completed`` units are done; of ``total``, where that was not known before."""


@contextmanager
def progress(
    title: str,
    total: int,
    *,
    completed: int = 0,
    quiet: bool = False,
    log_every: float | None = None,
) -> Iterator[Bar]:
    """Show progress: a bar on a terminal, else, or if ``log_every`` is given, plain lines.

    Args:
        title: of the work.
        total: units of work.
        completed: how many of them were done before.
        quiet: show nothing.
        log_every: seconds between two lines.
    """
    if quiet:
        yield _Silence()
    elif _stderr.is_terminal and log_every is None:
        with _TerminalBar(title, total, completed) as bar:
            yield bar
    else:
        yield _Lines(
            title, total, completed, SECONDS_BETWEEN_LINES if log_every is None else log_every
        )


class _Silence:
    def say(self, message: str) -> None:
        pass

    def update(self, completed: float, note: str = "", total: int | None = None) -> None:
        pass


class _Lines:
    def __init__(self, title: str, total: int, completed: int, seconds: float) -> None:
        self.title, self.total, self.first = title, total, completed
        self.seconds_between = seconds
        self.started = self.last = time.monotonic()

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def update(self, completed: float, note: str = "", total: int | None = None) -> None:
        now = time.monotonic()
        self.total = self.total if total is None else total
        if now - self.last < self.seconds_between:
            return
        self.last = now
        spent = now - self.started
        rate = (completed - self.first) / spent if spent else 0.0
        left = clock((self.total - completed) / rate) if rate else "?"
        line = f"{self.title} {int(completed)}/{self.total}, {rate:.3g}/s, {left} left"
        self.say(f"{line}, {note}" if note else line)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g}/s" if task.speed else "", style="dim")


class _TerminalBar:
    def __init__(self, title: str, total: int, completed: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=_stderr,
        )
        self.task = self.progress.add_task(title, total=total, completed=completed, note="")

    def __enter__(self) -> "_TerminalBar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, message: str) -> None:
        self.progress.console.print(message, markup=False)

    def update(self, completed: float, note: str = "", total: int | None = None) -> None:
        self.progress.update(self.task, completed=completed, note=note, total=total)


def clock(seconds: float) -> str:
    """A time span as hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def table(rows: dict[str, Any]) -> str:
    """Names and values in two aligned columns."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def number(value: Any) -> str:
    """A number as people read it."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)

"""Colours and bars, for a stderr that is a terminal; see `msdtool.cli.console` for all others."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from msdtool.cli.wrapping import wrapped
from msdtool.progress import Progress


class Terminal:
    """Prints lines, and below them a bar."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def print(self, message: str, label: str = "", style: str = "") -> None:
        """Print a line, its label in a style; never interpreted as markup."""
        lines = f"{label}{message}".split("\n")
        text = "\n".join(wrapped(line, self.console.width) for line in lines)
        label = label.rstrip()  # the line may break after it
        self.console.print(Text.assemble((label, style), text.removeprefix(label)))

    @contextmanager
    def bar(self, title: str, done: float = 0) -> Iterator[Progress]:
        """Show a bar; yields what moves it.

        Args:
            title: what the work is called.
            done: units that were complete before.
        """
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        # Results stay on stdout, unless it is the same screen: there they appear above the bar.
        redirect = sys.stdout.isatty()
        # The bar goes when it is done: what was done is said in words.
        with Bar(*columns, console=self.console, redirect_stdout=redirect, transient=True) as bar:
            task = bar.add_task(title, total=None, completed=int(done), note="")

            def move(done: float, total: float, note: str = "", /) -> None:
                bar.update(task, completed=done, total=total, note=note)

            yield move


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g}/s" if task.speed else "", style="dim")

"""What the user sees: results on stdout; on stderr a bar, or lines of progress, and the log.

What the library and the commands report is logged to "msdtool" and printed here, see `listen`.
"""

import codecs
import io
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from msdtool import strict_json
from msdtool.cli import wrapping
from msdtool.cli.hints import hint
from msdtool.progress import Progress, no_progress

if TYPE_CHECKING:
    from msdtool.cli.terminal import Terminal

SECONDS_BETWEEN_LINES = 10.0
PAGE_WIDTH = 120
"""Columns of a table in a file or a pipe."""
MAX_LABELS = 12
"""Labels of the largest confusion matrix that is shown."""
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f]")
"""Characters that move a terminal's cursor, colour it or worse; line ends and tabs are harmless."""


class _Log(logging.Handler):
    """Prints records as lines, above the bar if there is one.

    Attributes:
        quiet: of our own records, print only warnings; bars do not appear either.
        verbose: also print our records of level DEBUG, with the module that they come from.
    """

    quiet = False
    verbose = False

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        if not self.quiet or (is_warning and record.name.startswith("msdtool")):
            label = "warning: " if is_warning else ""
            if record.levelno < logging.INFO:
                label = f"{record.name.removeprefix('msdtool.')}: "
            text = record.getMessage() + hint(getattr(record, "hint_key", ""))
            _print(text, label, "yellow" if is_warning else "dim")


_log = _Log()


def accept_all_names() -> None:
    """Let stdin and stdout pass names of files that their encoding does not have.

    Undecodable bytes are passed through unchanged, as by other programs in a pipe; characters that
    a terminal does not have are shown as Python writes them, "\\xe9" for é.
    """
    codecs.register_error("names", _encode_name)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "names")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _encode_name(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "backslashreplace"
    return character.encode("ascii", errors), error.start + 1


def be_verbose(wanted: bool) -> None:
    """Also print, from the next call of `listen` on, records of level DEBUG."""
    _log.verbose = wanted


def listen(*, quiet: bool = False) -> None:
    """Print what is logged to "msdtool" from level INFO on; with ``quiet``, warnings and no bars.

    A later call replaces the choice of an earlier one.
    """
    _log.quiet = quiet
    logger = logging.getLogger("msdtool")
    logger.setLevel(logging.DEBUG if _log.verbose and not quiet else logging.INFO)
    logger.addHandler(_log)
    # Its warnings would otherwise ignore --quiet.
    matplotlib = logging.getLogger("matplotlib")
    matplotlib.addHandler(_log)
    matplotlib.addFilter(_is_not_of_the_home)


def _is_not_of_the_home(record: logging.LogRecord) -> bool:
    """Whether a record of matplotlib does not say that its folder in the home cannot be made.

    That costs a second; where it costs more, our own warning names the cure for both.
    """
    return not any(words in record.getMessage() for words in ("mkdir -p failed", "MPLCONFIGDIR"))


def error(message: str) -> None:
    """Print an error; the lines after the first are indented."""
    _print(message.replace("\n", "\n       "), "error: ", "bold red")


def _print(message: str, label: str, style: str) -> None:
    terminal, message = _terminal(), _harmless(message)
    if terminal is None:
        print(f"{label}{message}", file=sys.stderr, flush=True)
    else:
        terminal.print(message, label, style)


def _harmless(text: str) -> str:
    """Show control characters, which the names of files may contain, instead of obeying them."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _terminal() -> "Terminal | None":
    """Return stderr as a terminal; None if it is not one."""
    return _open_terminal() if sys.stderr.isatty() else None


@cache
def _open_terminal() -> "Terminal":
    # Takes 0.1 s to import, which batch jobs and pipes need not wait for.
    from msdtool.cli.terminal import Terminal

    return Terminal()


def result(text: str) -> None:
    """Print a result; nothing is broken, so that paths can be copied."""
    print(_harmless(text) if sys.stdout.isatty() else text, flush=True)


def result_text(text: str) -> None:
    """Print a result that people read: on a terminal, long lines break at words."""
    width = _width()
    lines = text.splitlines() if width else [text]
    result("\n".join(wrapping.wrapped(line, width) if width else line for line in lines))


def _width() -> int | None:
    """The columns of the terminal that results appear on; None if they go elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def result_json(value: Any) -> None:
    """Print a result as one line of JSON; NaN and infinite numbers become null."""
    print(strict_json.dumps(value, sys.stdout.encoding or "utf-8"), flush=True)


@contextmanager
def progress(title: str, *, done: float = 0, log_every: float | None = None) -> Iterator[Progress]:
    """Show progress: a bar on a terminal; off a terminal, or with ``log_every``, plain lines.

    Args:
        title: what the work is called.
        done: units that were complete before; they do not count towards the speed.
        log_every: seconds between two lines.

    Yields:
        What the work reports its progress to.
    """
    terminal = _terminal()
    if _log.quiet:
        yield no_progress
    elif terminal is not None and log_every is None:
        with terminal.bar(title, done) as bar:
            yield _with_harmless_notes(bar)
    else:
        seconds = SECONDS_BETWEEN_LINES if log_every is None else log_every
        yield _with_harmless_notes(_Lines(title, done, seconds))


def _with_harmless_notes(report: Progress) -> Progress:
    """Progress whose notes, such as names of files, stay on their line and move no cursor."""

    def move(done: float, total: float, note: str = "", /) -> None:
        report(done, total, _harmless(note).replace("\n", "\\n").replace("\t", "\\t"))

    return move


class _Lines:
    """Prints a line from time to time."""

    def __init__(self, title: str, done: float, seconds: float) -> None:
        self.title, self.first = title, done
        self.seconds_between = seconds
        self.started = self.last = time.monotonic()

    def __call__(self, done: float, total: float, note: str = "", /) -> None:
        now = time.monotonic()
        if now - self.last < self.seconds_between:
            return
        self.last = now
        elapsed = now - self.started
        rate = (done - self.first) / elapsed if elapsed else 0.0
        left = clock((total - done) / rate) if rate else "?"
        line = f"{self.title} {int(done)}/{int(total)}, {rate:.3g}/s, {left} left"
        print(f"{line}, {note}" if note else line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """A duration as hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def table(rows: dict[str, Any]) -> str:
    """Names and values in two aligned columns."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells in columns; those that do not fit on the terminal or page follow below."""
    wished = os.environ.get("COLUMNS", "")
    page = int(wished) if wished.isdecimal() and int(wished) else PAGE_WIDTH
    return wrapping.columns(lines, _width() or page)


def confusion(matrix: dict[str, Any]) -> str:
    """A confusion matrix, or where to find one that is too large to read."""
    labels, pixels = list(map(str, matrix["labels"])), matrix["pixels"]
    if len(labels) > MAX_LABELS:
        return f"confusion of {len(labels)} labels: with --json"
    rows = [[label, *map(str, row)] for label, row in zip(labels, pixels, strict=True)]
    return columns([["target \\ output", *labels], *rows])

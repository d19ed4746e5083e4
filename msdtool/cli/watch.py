"""What `msdtool predict --watch` does: results for files as they arrive."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msdtool.cli.signals import StopRequest
from msdtool.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from msdtool.data.specifiers import Location
    from msdtool.predict import Job, Prediction, Predictor

log = logging.getLogger(__name__)


class _Once:
    """Lets each message of a logger pass once."""

    def __init__(self) -> None:
        self.passed: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is new."""
        message = record.getMessage()
        is_new = message not in self.passed
        self.passed.add(message)
        return is_new


def check_options(output: Path, idle: str | None, **others: bool) -> None:
    """Raise ConfigError for what does not go together with --watch.

    Args:
        output: where results go.
        idle: when to end.
        others: options of the command and whether they are given.
    """
    from msdtool.data.containers.registry import suffix_of

    for name, is_given in others.items():
        if is_given:
            raise ConfigError(f"--watch and --{name.replace('_', '-')}: choose one")
    if suffix_of(output) and not output.is_dir():
        raise ConfigError(f"--watch: {output}: results go to a folder; name one")
    idle_seconds(idle)


def idle_seconds(idle: str | None) -> float | None:
    """Read --idle; None: no end.

    Raises:
        ConfigError: it is not a time.
    """
    from msdtool.config.values import parse_duration

    if idle is None:
        return None
    try:
        return float(parse_duration(idle))
    except ValueError as error:
        raise ConfigError(f"--idle: got {idle!r}; {error}") from None


def run(
    predictor: "Predictor",
    names: Sequence[str],
    plan: "Callable[[Sequence[Location]], list[Job]]",
    show: "Callable[[Prediction], None]",
    idle: str | None,
) -> None:
    """Predict images as they arrive, until a signal comes or none has come for a while.

    Raises:
        Stopped: a signal came.
    """
    from msdtool.data.build import locate
    from msdtool.data.specifiers import NoImagesError
    from msdtool.predict.watching import Arrivals, watch

    specifiers = logging.getLogger("msdtool.data.specifiers")
    specifiers.addFilter(_Once())  # it names files that are not images at each look

    def find() -> "list[Location]":
        found: list[Location] = []
        for name in names:
            with suppress(NoImagesError):  # none yet
                found += locate([name])
        return found

    find()  # a name that can lead to nothing is an error now, not never
    stop, count = StopRequest(), 0
    log.info(f"watching {', '.join(names)}")
    arrivals = Arrivals(find)
    for item in watch(predictor, arrivals, plan, idle_seconds=idle_seconds(idle), stop=stop):
        count += 1
        show(item)
    files = f"{count} file{'' if count == 1 else 's'}"
    if stop():
        raise Stopped(f"stopped after {files}; start again to resume", stop.exit_code)
    log.info(f"no new image for {idle}: stopped after {files}")

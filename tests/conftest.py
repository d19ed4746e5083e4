"""Fixtures that several folders of tests share."""

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from msdtool.cli import main
from msdtool.cli.signals import EXIT_CODES


@dataclass
class Outcome:
    """What a command did."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def msdtool(monkeypatch, capsys, caplog) -> Callable[..., Outcome]:
    """Run the command line in this process: msdtool("train", config) gives an Outcome."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in EXIT_CODES}

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["msdtool", *map(str, arguments)])
        capsys.readouterr()
        caplog.clear()
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        finally:
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler)
        out, err = capsys.readouterr()
        assert isinstance(code, int)
        # Without a handler, Python prints what libraries log to stderr, beside our messages.
        logged = [item.getMessage() for item in caplog.records if item.levelno >= logging.WARNING]
        return Outcome(code, out, err + "\n".join(logged))

    return run

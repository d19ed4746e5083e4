"""What tests of commands that fail share."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

# What a run writes before its first step; a failure after that may leave it.
BEGUN = {"run/config.yaml", "run/environment.json", "run/log.txt"}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def refused(cli, caplog, tmp_path) -> Callable[..., str]:
    """Run a command that must fail with one clear message, and return the message.

    No file below tmp_path may have changed, and none may be new but those in ``leaves``.
    """

    def run(*arguments: object, code: int, leaves: set[str] = frozenset(), stdin: str = "") -> str:
        before = contents(tmp_path)
        caplog.clear()
        result = cli(*arguments, stdin=stdin)
        assert result.code == code, result
        assert "Traceback" not in result.out + result.err
        # Python prints what other libraries log to stderr, beside our message.
        logged = [item for item in caplog.records if item.levelno >= logging.WARNING]
        assert all(item.name.startswith("msdtool") for item in logged)
        _, *messages = f"\n{result.err}".split("\nerror: ")
        assert len(messages) == 1, result.err
        after = contents(tmp_path)
        assert {name: after.get(name) for name in before} == before
        assert set(after) - set(before) <= set(leaves)
        # A message continues in indented lines; nothing follows it.
        first, *others = messages[0].rstrip("\n").split("\n")
        assert all(line.startswith("       ") for line in others)
        return "\n".join([first, *(line.strip() for line in others)])

    return run

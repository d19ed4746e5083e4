"""Completion for shells, as typer's scripts call it."""

import os
import subprocess
import sys

import pytest

REQUESTS = {
    "bash": {"COMP_WORDS": "msdtool tr", "COMP_CWORD": "1"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "msdtool tr"},
    "fish": {"_TYPER_COMPLETE_ARGS": "msdtool tr", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


@pytest.mark.parametrize("shell", REQUESTS)
def test_commands_are_completed(cli, monkeypatch, shell: str) -> None:
    for name, value in {"_MSDTOOL_COMPLETE": f"complete_{shell}", **REQUESTS[shell]}.items():
        monkeypatch.setenv(name, value)
    result = cli()
    assert result.code == 0
    assert "train" in result.out
    assert "predict" not in result.out


def test_options_are_completed_without_torch() -> None:
    request = {"_MSDTOOL_COMPLETE": "complete_bash", "COMP_WORDS": "msdtool train --res"}
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "msdtool"],
        env={**os.environ, **request, "COMP_CWORD": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "--resume\n"
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "msdtool.cli.app" in imported
    assert not {"torch", "numpy"} & imported

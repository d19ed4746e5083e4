"""`msdtool` for the commands of the documentation."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT
from tests.docs.warm_program import install


@pytest.fixture(scope="package")
def program(tmp_path_factory) -> Iterator[Path]:
    """The folder of an executable `msdtool`."""
    folder = tmp_path_factory.mktemp("program")
    address = str(folder / "socket")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.docs.warm_program", address],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # threads cost more than such images give
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    with server, server.stdout:
        assert server.stdout.readline() == "ready\n"
        install(folder / "bin" / "msdtool", address)
        yield folder / "bin"
        server.kill()

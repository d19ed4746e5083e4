"""The script that examines a machine with a GPU in one go."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "gpu"
STUB = """#!/bin/sh
echo "result of $*"
echo "log of $*" >&2
case "$*" in *FAILING*) exit 3;; esac
"""


def run(folder: Path, failing: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script in an empty checkout, with a stub instead of Python."""
    (folder / ".ci").mkdir()
    shutil.copy(SCRIPT, folder / ".ci" / "gpu")
    python = folder / "python"
    python.write_text(STUB.replace("FAILING", failing))
    python.chmod(0o755)
    return subprocess.run(
        [folder / ".ci" / "gpu", python], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("failing", "code", "names"),
    [("nothing", 0, []), ("pytest", 1, ["gpu/tests.txt"]),
     ("bench", 1, ["gpu/bench.json", "gpu/volumes.json"])],
)  # fmt: skip
def test_everything_runs_and_is_saved_whatever_fails(tmp_path, failing, code, names):
    done = run(tmp_path, failing)
    assert done.returncode == code
    saved = {
        "doctor.txt": "-m msdtool doctor",
        "tests.txt": "-m pytest -m gpu",
        "bench.json": (
            "-m msdtool bench --device cuda --json --size 256 --size 512 --size 1024 --depth 100 "
            "--limit 30 --profile gpu/trace.json"
        ),
        "volumes.json": (
            "-m msdtool bench --device cuda --json --alone --ndim 3 --size 128 --depth 50"
        ),
    }
    for name, command in saved.items():
        result, log = f"result of {command}\n", f"log of {command}\n"
        file = tmp_path / "gpu" / name
        if file.suffix == ".txt":
            assert file.read_text() == result + log
        else:
            assert (file.read_text(), Path(f"{file}.log").read_text()) == (result, log)
    if names:
        assert done.stderr.endswith(f"failed: {' '.join(names)}\n")

"""The script for a visit to a machine with a GPU, with a stand-in for Python."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = [
    "driver", "packages", "kernels", "images", "engines", "profile", "graphs", "volumes", "doctor",
    "rivals",
]  # fmt: skip

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of nothing but the script and a wheel."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "gpu", tmp_path / ".ci" / "gpu")
    (tmp_path / "build" / "wheels").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "build" / "wheels" / "lacking-1.0-py3.whl", "w") as wheel:
        wheel.writestr("lacking.py", "value = 7\n")
    return tmp_path


def visit(checkout: Path, python: str, **environment: str) -> tuple[int, list[dict], str]:
    """Exit status, the lines of results and the log, in a folder of another name."""
    (checkout / "python").write_text(f"#!/usr/bin/env bash\n{python}\n")
    (checkout / "python").chmod(0o755)
    (checkout / "nvidia-smi").write_text("#!/bin/sh\necho a driver\n")
    (checkout / "nvidia-smi").chmod(0o755)
    path = f"{checkout}:{os.environ['PATH']}"
    done = subprocess.run(
        [checkout / ".ci" / "gpu", checkout / "python"],
        env={
            **os.environ,
            "PYTHONPATH": "",
            "PATH": path,
            "OUT": str(checkout / "found"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (checkout / "found" / "results.jsonl").read_text().splitlines()
    return (
        done.returncode,
        list(map(json.loads, lines)),
        (checkout / "found" / "log.txt").read_text(),
    )


def test_parts_go_on_after_failures_and_results_are_kept_at_once(checkout: Path) -> None:
    """One part fails, and one is cut off, after it has printed a result."""
    script = checkout / ".ci" / "gpu"
    script.write_text(script.read_text().replace("measured volumes 50", "measured volumes 5"))
    python = """
    case "$*" in
      *"-e "*) exec python3 "$@" ;;
      *"import lacking"*) exit 1 ;;
      *test_front*) echo broken >&2; exit 3 ;;
      *"--ndim 3"*) echo '{"row": 3}'; exec sleep 60 ;;
      *"--profile"*) echo '{}' > "${@: -1}" ;;
      *bench*)
        [[ -e ${PYTHONPATH##*:}/lacking.py ]] || exit 4
        echo "{\\"row\\": 1, \\"path\\": \\"$PYTHONPATH\\"}" ;;
    esac"""
    code, results, log = visit(checkout, python)
    parts = {line["part"]: line["exit"] for line in results if "part" in line}
    assert list(parts) == PARTS
    assert code == 1 and "broken" in log and "a driver" in log
    assert {part: status for part, status in parts.items() if status != "0"} == {
        "kernels": "3", "volumes": "124",
    }  # fmt: skip
    rows = [line for line in results if "row" in line]
    assert [row["row"] for row in rows] == [1, 3, 1]
    assert rows[0]["path"].startswith(f"{checkout}:")
    assert (checkout / "found" / "trace.json.gz").exists()


def test_a_visit_without_failures_ends_with_success(checkout: Path) -> None:
    code, results, log = visit(checkout, 'echo "log of $*" >&2')
    assert code == 0
    assert [(line["part"], line["exit"]) for line in results] == [(part, "0") for part in PARTS]
    assert "log of -m pytest -q -p no:cacheprovider -o filterwarnings=default -m gpu tests/" in log
    assert "log of -m msdtool bench --device cuda --json --alone --seconds 1 --ndim 3" in log


def test_what_there_is_no_time_for_is_skipped(checkout: Path) -> None:
    code, results, _ = visit(checkout, "exit 0", GPU_MINUTES="0")
    assert code == 1
    assert [line["exit"] for line in results] == ["skipped"] * 10

"""The table of predicted times is what the script prints."""

import runpy
from pathlib import Path

import pytest
import torch

from msdtool.ops.cuda import launcher
from tests.kernels import nvrtc, sass

if sass.MISSING:
    pytest.skip(sass.MISSING, allow_module_level=True)

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_that_of_the_script() -> None:
    """Launches with any compiler, times with the version that the table of resources names."""
    found = runpy.run_path(str(DOCS / "gpu_times.py"))["table"]().splitlines()
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    table = [
        line for line in text.splitlines() if line.startswith(("| network | computed by", "| "))
    ]
    start = table.index(found[0])
    written = table[start : start + len(found)]
    if nvrtc.version() == nvrtc.read_table()["nvrtc"]:
        assert written == found
    for line, wanted in zip(written, found, strict=True):
        assert line.split("|")[1:4] == wanted.split("|")[1:4]
    assert "cpu" not in launcher.LAUNCHERS
    assert torch.get_float32_matmul_precision() == "highest"

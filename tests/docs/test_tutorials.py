"""The tutorials, from their first block to the last, on smaller data and for one epoch."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.docs.markdown import TUTORIALS, blocks
from tests.html import Page

PATIENCE_SECONDS = 600.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs bash"),
]


@pytest.fixture
def follow(tmp_path, program, monkeypatch):
    """Do what a tutorial says, in one folder."""
    monkeypatch.chdir(tmp_path)
    path = f"{program}{os.pathsep}{os.environ['PATH']}"

    def run(page: str) -> Path:
        for block in blocks():
            if block.page != f"{TUTORIALS}{page}.md" or block.excuse:
                continue
            if block.language == "python":
                exec(compile(block.text, str(block), "exec"), {"__name__": "script"})
                continue
            result = subprocess.run(
                ["bash", "-eu", "-c", block.text],
                env={**os.environ, "PATH": path, "SHORTEST": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_SECONDS,
            )
            assert result.returncode == 0, f"{block}: {result.stderr}"
        return tmp_path

    return run


def test_a_scan_is_denoised_and_split(follow, tmp_path):
    pytest.importorskip("skimage")
    frames = np.arange(10.0)[:, None, None] * np.ones((2, 3))  # each has the value of its angle
    white, dark = frames[:1] + 100, frames[:2] - 100
    with h5py.File(tmp_path / "scan.h5", "w") as scan:
        scan["exchange/data"], scan["exchange/theta"] = frames, np.arange(10.0)
        scan["exchange/data_white"], scan["exchange/data_dark"] = white, dark
    entry = "entry1/tomo_entry"
    with h5py.File(tmp_path / "scan.nxs", "w") as scan:
        scan[f"{entry}/data/data"] = np.concatenate([dark, frames[:5], white, frames[5:]])
        scan[f"{entry}/data/rotation_angle"] = [0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]
        scan[f"{entry}/instrument/detector/image_key"] = [2, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    folder = follow("noise2inverse")
    Page(folder / "foam" / "view.html").check_policy()
    for first in range(4):
        angles = list(range(first, 10, 4))
        with h5py.File(folder / f"scan_{first + 1}.h5") as part:
            assert part["exchange/theta"][:].tolist() == angles
            assert part["exchange/data"][:, 1, 2].tolist() == angles
            assert np.array_equal(part["exchange/data_white"], white)
            assert np.array_equal(part["exchange/data_dark"], dark)
        with h5py.File(folder / f"scan_{first + 1}.nxs") as part:
            key = part[f"{entry}/instrument/detector/image_key"][:]
            data = part[f"{entry}/data/data"][:, 0, 0]
            assert sorted(key) == [0] * len(angles) + [1, 2, 2]
            assert data[key == 0].tolist() == angles
            assert part[f"{entry}/data/rotation_angle"][:][key == 0].tolist() == angles
            assert data[key == 2].tolist() == [-100, -99] and data[key == 1].tolist() == [100]


@pytest.mark.parametrize(
    ("page", "results"),
    [
        ("few-labels", ["few.html", "look.html", "strokes/shapes_000.tif"]),
        ("noise2void", ["denoised.html", "denoised/shapes_000.tif"]),
    ],
)
def test_a_tutorial_leads_to_its_results(follow, page, results):
    folder = follow(page)
    assert [name for name in results if not (folder / name).exists()] == []
    for name in results:
        if name.endswith(".html"):
            Page(folder / name).check_policy()

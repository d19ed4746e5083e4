"""What the documented pipelines leave behind."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.markdown import ROOT
from tests.helpers import write_experiment, write_noisy_pairs

PATIENCE_SECONDS = 300

COMMANDS = ROOT / "docs" / "commands.md"


def pipelines():
    """The commands of the section on pipelines, in its order."""
    section = COMMANDS.read_text().partition("## Pipelines")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


NEW_IMAGES, BEST_DEPTH, WORST_IMAGES = pipelines()

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")


@pytest.fixture
def shell(tmp_path, program, regression_run):
    """Run a pipeline in a folder with a trained network and images."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "denoise").symlink_to(regression_run)
    scan = write_noisy_pairs(tmp_path / "data", 3, (12, 13))["input"]
    (tmp_path / "scan").symlink_to(scan)
    write_noisy_pairs(tmp_path / "test", 4, (12, 13))

    def run(pipeline: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", pipeline],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{program}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("done", [(), (1,), (0, 1, 2)], ids=["nothing", "something", "all"])
def test_new_images_are_done_and_listed(shell, tmp_path, done):
    (tmp_path / "cleaned").mkdir()
    for number in done:
        shutil.copy(tmp_path / "scan" / f"image_00{number}.tif", tmp_path / "cleaned")
    result = shell(NEW_IMAGES)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "cleaned.txt").read_text().splitlines() == [
        f"cleaned/image_00{number}.tif" for number in range(3) if number not in done
    ]


def test_what_is_wrong_does_not_pass_for_what_is_missing(shell):
    result = shell(NEW_IMAGES.replace("scan/*.tif", "scam/*.tif"))
    assert result.returncode != 0
    assert "scam" in result.stderr


@needs_jq
def test_the_best_of_several_networks_is_applied(shell, tmp_path):
    data = {
        "train": write_noisy_pairs(tmp_path / "train", 2, (12, 12)),
        "validation": write_noisy_pairs(tmp_path / "validation", 1, (12, 12), seed=1),
    }
    write_experiment(tmp_path / "denoise.yaml", {"data": data})
    assert "in 30 100;" in BEST_DEPTH
    result = shell(BEST_DEPTH.replace("in 30 100;", "in 2 4;"))
    assert result.returncode == 0, result.stderr
    networks = [f"{tmp_path}/runs/depth-{depth}/checkpoints/best.pt" for depth in (2, 4)]
    assert (tmp_path / "networks.txt").read_text().splitlines() == networks
    assert names(tmp_path / "cleaned") == names(tmp_path / "scan")
    again = shell(BEST_DEPTH.replace("in 30 100;", "in 2 4;"))
    assert (again.returncode, again.stdout) == (0, result.stdout), again.stderr


@needs_jq
def test_the_worst_images_are_looked_at(shell, tmp_path):
    result = shell(WORST_IMAGES)
    assert result.returncode == 0, result.stderr
    assert len(names(tmp_path / "worst")) == 2
    assert sorted(result.stdout.splitlines()) == [
        f"worst/{name}" for name in names(tmp_path / "worst")
    ]
    assert "\x1b" not in result.stderr
    again = shell(WORST_IMAGES)
    assert (again.returncode, again.stdout) == (0, result.stdout), again.stderr

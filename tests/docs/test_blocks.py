"""Every code block of the documentation that can run, runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from msdtool.config import load_config
from msdtool.nn.build import build_network
from msdtool.nn.from_config import plan_architecture
from tests.docs.markdown import TUTORIALS, blocks
from tests.helpers import write_experiment, write_noisy_pairs

PATIENCE_SECONDS = 600.0
ALL = [block for block in blocks() if not block.excuse]
RUNNABLE = [block for block in ALL if not block.page.startswith(TUTORIALS)]
COMMANDS = {
    page: [block for block in RUNNABLE if (block.page, block.language) == (page, "bash")]
    for page in dict.fromkeys(block.page for block in RUNNABLE if block.language == "bash")
}


def written_in(language: str) -> pytest.MarkDecorator:
    found = [block for block in RUNNABLE if block.language == language]
    return pytest.mark.parametrize("block", found, ids=str)


def test_every_block_is_run_or_says_why_it_cannot_be():
    left_out = [str(b) for b in ALL if b.language not in ("bash", "python", "yaml")]
    assert not left_out, "neither run nor marked by a comment <!-- not run: REASON --> before it"
    assert {b.language for b in ALL} == {"bash", "python", "yaml"}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The images that the pages speak of."""
    folder = tmp_path_factory.mktemp("images")
    for part in ("train", "test", "data/train", "data/val", "scan"):
        write_noisy_pairs(folder / part, 3)
    return folder


@pytest.fixture
def desk(tmp_path, images, regression_run) -> Path:
    """A folder with images, an experiment and its run, as a reader of the pages would have it."""
    for name in ("train", "test", "data"):
        (tmp_path / name).symlink_to(images / name)
    (tmp_path / "scan").symlink_to(images / "scan" / "noisy")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    return tmp_path


def begin(desk: Path, text: str, run: Path) -> None:
    """Lay out an experiment and its run, if these commands do not make them themselves."""
    if "-o denoise.yaml" not in text:
        data = {
            "train": write_noisy_pairs(desk / "pairs", 2),
            "validation": write_noisy_pairs(desk / "other_pairs", 1, seed=1),
        }
        write_experiment(desk / "denoise.yaml", {"data": data})
        (desk / "runs").mkdir()
        (desk / "runs" / "denoise").symlink_to(run)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize("page", COMMANDS)
def test_the_commands_of_a_page_work_one_after_the_other(page, desk, program, regression_run):
    """As a reader types them, in one folder, from the top of the page to its end."""
    text = "".join(block.text for block in COMMANDS[page])
    if "jq " in text and shutil.which("jq") is None:
        pytest.skip("needs jq")
    if "msdtool demo " in text:
        pytest.importorskip("skimage")
    begin(desk, text, regression_run)
    path = f"{program}{os.pathsep}{os.environ['PATH']}"
    for block in COMMANDS[page]:
        result = subprocess.run(
            ["bash", "-eu", "-c", block.text],
            cwd=desk,
            env={**os.environ, "PATH": path, "EDITOR": "true"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert result.returncode == 0, f"{block}: {result.stderr}"


@written_in("python")
def test_a_script_works(block, desk, regression_run, monkeypatch):
    if "runs/denoise" in block.text or "denoise.yaml" in block.text:
        begin(desk, block.text, regression_run)
    monkeypatch.chdir(desk)
    exec(compile(block.text, str(block), "exec"), {"__name__": "script"})


@written_in("yaml")
def test_an_experiment_is_valid_and_its_network_can_be_built(block, tmp_path):
    experiment = yaml.safe_load(block.text) or {}  # a comment alone
    if "task" not in experiment:  # only the sections that the page is about
        paths = {"input": "in/*.tif", "target": "out/*.tif"}
        experiment = {"task": "regression", "data": {"train": paths}, **experiment}
    experiment.setdefault("network", {}).setdefault("depth", 3)
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
    config = load_config(file)
    space = (32,) * config.network.ndim
    channels = max(1, config.num_labels)
    network = build_network(plan_architecture(config, 1, channels, space)).eval()
    scale = 2 if "PixelShuffle_ICNR" in block.text else 1
    output = network(torch.ones(1, 1, *space))
    assert output.shape == (1, channels, *(scale * size for size in space))

"""The project as a whole: what is built, shipped, documented and imported."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # The build backend is installed for development, so no isolated environment is needed.
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_a_wheel_carries_kernels_and_configs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("kernels", "configs"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert files
        for file in files:
            assert f"msdtool/share/{file.relative_to(ROOT)}" in names


def test_a_wheel_carries_every_module(wheel):
    # The build omits what git ignores, and a pattern may ignore more than intended.
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = list((ROOT / "msdtool").rglob("*.py"))
    assert modules
    assert {str(path.relative_to(ROOT)) for path in modules} <= names
    assert "msdtool/py.typed" in names


def test_a_wheel_works_installed_elsewhere(wheel, tmp_path):
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
         "--target", site, wheel],
        check=True,
        capture_output=True,
    )  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = (
        "import msdtool, msdtool.resources as r; from pathlib import Path;"
        "print(Path(msdtool.__file__).parent.parent);"
        "print(*(r.resource_folder(n).is_dir() for n in ('kernels', 'configs')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    ).stdout.splitlines()
    assert found == [str(site), "True True"]
    template = subprocess.run(
        [sys.executable, "-m", "msdtool", "init", "segment"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    ).stdout
    assert yaml.safe_load(template)["task"] == "segmentation"

"""The project as a whole: what is built, shipped, documented and imported."""

import os
import re
import subprocess
import sys
import tomllib
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
        found = (ROOT / folder).rglob("*")
        files = [path for path in found if path.is_file() and path.suffix != ".pyc"]
        assert files
        for file in files:
            assert f"msdtool/share/{file.relative_to(ROOT)}" in names


def test_what_package_indexes_show_links_to_whole_addresses(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    text = archive.read(metadata).decode()
    assert "![A slice of foam" in text
    assert not re.findall(r"\]\((?!https://|#)[^)]*\)", text)


def test_a_wheel_carries_every_module(wheel):
    # The build omits what git ignores, and a pattern may ignore more than intended.
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = [*(ROOT / "msdtool").rglob("*.py"), *(ROOT / "msdtool" / "report").glob("*.[hj]*")]
    assert {path.suffix for path in modules} == {".py", ".html", ".js"}
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


FOLDERS = ("msdtool", "kernels", "configs")


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_containers_install_extras_that_exist_and_all_that_the_package_needs(name):
    text = (ROOT / "configs" / "containers" / name).read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"/source\[[^\w]*(?:GPU)?[\s}]*([\w,]+)\]", text)
    extras = {*extras.split(","), *re.findall(r"GPU=(cuda\d+)", text)}
    assert {"volumes", "cuda13"} <= extras <= set(project["optional-dependencies"])
    copied = {
        word
        for line in text.splitlines()
        if re.search(r"^(COPY|   ) .*/source", line) and "volumes" not in line
        for word in line.split()
    }
    assert {"pyproject.toml", "README.md", *project["license-files"], *FOLDERS} <= copied


def test_a_room_shows_at_most_twelve_entries_at_its_top_level():
    entries = {path.name for path in (ROOT / "msdtool" / "ops").iterdir()} - {"__pycache__"}
    assert {"__init__.py", "engine.py"} <= entries
    assert len(entries) <= 12, sorted(entries)

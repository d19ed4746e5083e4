"""What a release says about itself, in the places where it says it.

The version stands in pyproject.toml, not in a tag alone: archives, shallow clones and container
builds have no tags, and must not be called 0.0.0.
"""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPE = yaml.safe_load((ROOT / "configs" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch"}


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert RECIPE["context"]["version"] == PROJECT["version"]


def test_what_changed_stands_under_this_version_or_is_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## (.+) \(\d{4}-\d\d-\d\d\)$", text, re.M)[0]
    assert newest in ("Unreleased", PROJECT["version"])


def test_the_recipe_needs_what_the_package_needs():
    needed = {
        CONDA_NAMES.get(name, name) + bound
        for name, bound in (re.split("(?=>=)", line) for line in PROJECT["dependencies"])
    }
    run = {line.replace(" ", "") for line in RECIPE["requirements"]["run"]}
    assert needed == run - {"python>=${{python_min}}", "cxx-compiler"}
    assert f">={RECIPE['context']['python_min']}" == PROJECT["requires-python"]


def test_the_recipe_has_the_commands_and_builds_with_what_the_package_builds_with():
    entries = RECIPE["build"]["python"]["entry_points"]
    assert entries == [f"{name} = {place}" for name, place in PROJECT["scripts"].items()]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    host = {line.replace(" ", "") for line in RECIPE["requirements"]["host"]}
    assert set(build["requires"]) <= host

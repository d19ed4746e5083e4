"""What the documentation lists is what there is."""

import importlib
import re
import runpy

import pytest
import typer

from msdtool.cli.app import app
from msdtool.config.loss_names import LOSS_TERMS, LOSSES
from msdtool.config.reference import update
from msdtool.ops.engines import IMPLEMENTATIONS
from tests.docs.markdown import PAGES, ROOT


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What follows the heading that contains some words, up to the next of its rank."""
    (found,) = (s for s in re.split(r"^## ", text, flags=re.M) if heading in s.splitlines()[0])
    return found


@pytest.mark.parametrize("family", ["semifield", "encoding", "layers", "streaming"])
def test_the_tables_list_every_public_name_of_a_family_once(family):
    listed = re.findall(
        r"^\| `(\w+)` \| \S.* \| \S.* \|$",
        section(page("layers.md"), f"`msdtool.nn.{family}`"),
        re.M,
    )
    assert sorted(listed) == sorted(importlib.import_module(f"msdtool.nn.{family}").__all__)


def test_the_table_of_keys_is_current():
    text = page("configuration.md")
    assert text == update(text), "run: make docs"


def test_the_table_of_environment_variables_lists_all_of_ours():
    files = [*(ROOT / "msdtool").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), ROOT / "Makefile"]
    texts = [file.read_text(encoding="utf-8") for file in files]
    named = {name for text in texts for name in re.findall(r"(?<!_)\bMSDTOOL_[A-Z]+\b", text)}
    table = section(page("commands.md"), "Environment variables")
    assert set(re.findall(r"^\| `(MSDTOOL_\w+)` \| \S", table, re.M)) == named


COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_with_all_its_options(name):
    text = section(page("commands.md"), f"msdtool {name}")
    options = {
        option
        for parameter in COMMANDS[name].params
        for option in parameter.opts
        if option.startswith("-")
    }
    described = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
    assert options - {"-h", "--help"} - described == set()
    assert {o for o in described if o.startswith("--")} - options - SHOWN_ELSEWHERE == set()


SHOWN_ELSEWHERE = {"--resume"}
"""Options of other commands that a section may mention."""


def test_all_commands_are_listed():
    listed = re.findall(r"^\| \[`msdtool (\w+)`\]", page("commands.md"), re.M)
    assert sorted(listed) == sorted(COMMANDS)


def test_every_implementation_that_is_named_exists():
    named = set(re.findall(r'`"([a-z-]+)"`', page("python.md")))
    for path in PAGES:
        named |= set(re.findall(r'\bimpl="([^"]+)"', path.read_text(encoding="utf-8")))
    assert {"auto", "cuda", "reference"} <= named <= set(IMPLEMENTATIONS)


@pytest.mark.parametrize("task", LOSSES)
def test_the_table_of_losses_lists_all_of_a_task(task):
    table = section(page("training.md"), "Losses").split(f"| {task} | for |")[1].split("\n\n")[0]
    first = " ".join(row.split(" | ")[0] for row in table.splitlines())
    assert set(LOSSES[task]) <= set(re.findall(r"[\w+-]+", first))
    assert set(LOSS_TERMS[task]) <= set(re.findall(r"[\w-]+", first))


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    named = {name for text in texts for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)}
    assert {"demo", "test"} <= named <= targets


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_figure_of_the_rooms_shows_the_floors_that_are_enforced():
    drawing = runpy.run_path(str(ROOT / "docs/images/architecture.py"))["draw"]()
    figure = (ROOT / "docs/images/architecture.svg").read_text(encoding="utf-8")
    assert figure == drawing, "run: make docs"

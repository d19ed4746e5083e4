"""What the library says: arguments and config keys; the command line adds the options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msdtool
from msdtool.cli.hints import OPTIONS

PACKAGE = Path(msdtool.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
# Commands of other programs, as one types them.
ALLOWED = re.compile(r"torchrun --[\w-]+|pip install --[\w-]+")


def library() -> Iterator[tuple[str, ast.Module]]:
    """Every module below the command line, by its path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("cli/"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.Module) -> set[ast.AST]:
    """The expressions that are documentation."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners) and node.body]
    return {body[0].value for body in bodies if isinstance(body[0], ast.Expr)}


def messages_with_options(tree: ast.Module) -> list[str]:
    """Strings of several words that name an option; a single one is another program's argument."""
    documentation = docstrings(tree)
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in documentation
        and " " in node.value
        and OPTION.search(ALLOWED.sub("", node.value))
    ]


def test_no_message_of_the_library_names_an_option():
    found = {name: messages_with_options(tree) for name, tree in library()}
    assert not {name: messages for name, messages in found.items() if messages}


def test_messages_with_options_are_found():
    source = '"""Not --this."""\nraise E(f"{x}: use --memory for more")\nrun("--version")'
    assert messages_with_options(ast.parse(source)) == [": use --memory for more"]
    assert messages_with_options(ast.parse('f("torchrun --nproc-per-node=4")')) == []


def test_the_command_line_knows_every_hint():
    keys = {
        key
        for _, tree in library()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "hint_key"
        if isinstance(node.value, ast.Constant)
        for key in node.value.value.split()
    }
    assert keys <= set(OPTIONS)

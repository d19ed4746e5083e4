import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from msdtool.errors import Stopped

COMMANDS = [
    "bench", "check", "demo", "doctor", "evaluate", "import", "info", "init", "predict", "report",
    "train",
]  # fmt: skip


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['msdtool', '--help']\n"
        "from msdtool.cli import main\n"
        "try: main()\n"
        "except SystemExit as exit: print('exit', exit.code)\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'pydantic', 'tifffile'}\n"
        "print('heavy', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["exit 0", "heavy []"]
    assert done.stderr == ""


def test_a_check_imports_nothing_that_only_training_needs():
    # They take as long to import as torch does.
    code = (
        "import sys, msdtool.check\n"
        "print(sorted({'torchmetrics', 'scipy', 'matplotlib', 'skimage'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_python_m_msdtool_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "msdtool", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"msdtool {version('msdtool')}\n"


def test_help_lists_the_commands(cli):
    result = cli("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.out
    assert "Exit codes: 0 done" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(cli, command):
    result = cli(command, "--help")
    assert result.code == 0
    assert f"Example: msdtool {command}" in result.out


def test_version(cli):
    assert cli("--version") == (0, f"msdtool {version('msdtool')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'CONFIG'"),
        (["train", "x.yaml", "--epochs", "3"], "No such option"),
        (["predict", "model", "image.tif"], "Missing option '--output'"),
        (
            ["predict", "model", "image.tif", "-o", "out", "--part", "x"],
            "Invalid value for '--part'",
        ),
        (
            ["predict", "model", "image.tif", "-o", "out", "--num-parts", "0"],
            "Invalid value for '--num-parts'",
        ),
        (["evaluate", "model", "--input", "a"], "Missing option '--target'"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what(cli, arguments, message):
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_an_error_is_one_message_and_debug_shows_the_traceback(cli, tmp_path):
    missing = tmp_path / "no.yaml"
    result = cli("train", missing)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ") and str(missing) in result.err
    for arguments in (["--debug", "train", missing], ["train", missing, "--debug"]):
        debugged = cli(*arguments)
        assert debugged.code == 2
        assert debugged.err.startswith("Traceback (most recent call last):")
        assert debugged.err.endswith(result.err)


@pytest.mark.parametrize(
    ("problem", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (Stopped("stopped here"), 75, "error: stopped here\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "error: unexpected ZeroDivisionError: division by zero; run again with --debug for "
            "details\n",
        ),
    ],
)
def test_whatever_happens_is_one_message(cli, monkeypatch, problem, code, message):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr("msdtool.config.load_config", fail)
    assert cli("train", "x.yaml") == (code, "", message)


def test_a_reader_that_has_enough_is_no_failure(regression_run):
    done = subprocess.run(
        f"{sys.executable} -m msdtool info {regression_run} | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_results_are_plain_json(cli, regression_run):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(cli("info", regression_run, "--json").out, parse_constant=refuse)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_can_be_quiet(cli, name):
    help_text = cli(name, "--help").out
    assert f"Example: msdtool {name}" in help_text
    assert "--quiet" in help_text

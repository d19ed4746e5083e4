import json
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from msdtool.cli.app import app
from msdtool.cli.hints import OPTIONS
from msdtool.errors import ConfigError, Stopped

COMMANDS = sorted(str(command.name) for command in app.registered_commands)
QUIET_ANYWAY = {"info", "init", "report", "schema"}


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
    code = (
        "import sys, msdtool.check\n"
        "print(sorted({'scipy', 'matplotlib', 'skimage'} & set(sys.modules)))\n"
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
    usage, error = result.err.splitlines()
    assert usage.startswith("Usage: msdtool")
    # Errors of all kinds begin alike.
    assert error.startswith(f"error: {message}") and error.endswith(" --help")


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


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_verbose_tells_what_is_read_and_computed(cli, regression_run, images, tmp_path, flag):
    image = images / "image_000.tif"
    command = ("predict", regression_run, image, "-o", tmp_path / "out")
    said = f"data.specifiers: {image}: looks for images\n"
    short = cli(*command)
    assert said not in short.err
    for arguments in ((flag, *command, "--overwrite"), (*command, flag, "--overwrite")):
        long = cli(*arguments)
        assert (long.code, long.out) == (0, short.out)
        assert said in long.err
        assert "nn.device: networks are computed on cpu (" in long.err
    assert cli(*command, "--overwrite", flag, "--quiet").err == ""
    assert said not in cli(*command, "--overwrite").err  # nor the next command


def test_what_follows_two_dashes_is_no_flag(cli):
    assert "-v: no such run directory" in cli("predict", "-o", "out", "--", "-v", "a.tif").err


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


def test_a_reader_that_has_enough_is_not_a_failure(regression_run):
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


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - QUIET_ANYWAY))
def test_whatever_logs_or_draws_bars_can_be_quiet(cli, name):
    assert "--quiet" in cli(name, "--help").out


@pytest.mark.parametrize("name", sorted(QUIET_ANYWAY))
def test_a_command_that_is_quiet_anyway_has_no_such_option(cli, name):
    assert "--quiet" not in cli(name, "--help").out


def test_help_shows_names_not_types(cli):
    for name in COMMANDS:
        text = cli(name, "--help").out
        assert not re.search(r"<(list|int|float|str|bool)|\{\w+\}", text), text
    assert "msdtool predict [OPTIONS] MODEL INPUT" in cli("predict", "--help").out


@pytest.mark.parametrize("given", [["--plot", "a.png"], ["--plot=a.png"]])
def test_a_renamed_option_is_refused_by_its_new_name(cli, given):
    code, out, err = cli("bench", "--size", "32", *given)
    assert (code, out, err) == (2, "", "error: --plot: this option is now called --figure\n")


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("", ""),
        ("resume", " (--resume)"),
        ("resume overwrite run.directory", " (--resume, --overwrite, --run-dir)"),
        ("learning_rate", ""),
    ],
)
def test_the_options_for_a_messages_keys_are_named(cli, monkeypatch, key, options):
    def fail(*_, **__):
        raise ConfigError("a run is there", hint_key=key)

    monkeypatch.setattr("msdtool.config.load_config", fail)
    assert cli("train", "x.yaml").err == f"error: a run is there{options}\n"


def test_each_hint_names_an_option_that_exists(cli):
    texts = [cli(name, "--help").out for name in COMMANDS]
    for option in OPTIONS.values():
        assert any(re.search(rf"^ +{option}\b", text, re.MULTILINE) for text in texts), option

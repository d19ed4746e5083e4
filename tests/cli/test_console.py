import io
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from msdtool.cli import console
from msdtool.cli.terminal import Terminal

log = logging.getLogger("msdtool.somewhere")


@pytest.fixture(autouse=True)
def _listening():
    console.listen()


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def screen(monkeypatch):
    """What appears on stderr where that is a terminal."""
    text = io.StringIO()
    terminal = Terminal(Console(file=text, force_terminal=True, highlight=False, width=200))
    monkeypatch.setattr(console, "_terminal", lambda: terminal)
    return text


def test_long_lines_break_at_spaces_and_names_stay_whole(screen):
    terminal = Terminal(Console(file=screen, width=40, soft_wrap=True))
    name = "/a/very/long/name/of/a/file/that/does/not/fit.tif"
    terminal.print(f"{name}: found the value 3, which no label of the config has", "warning: ")
    terminal.print("a  1\nb  2")
    lines = screen.getvalue().splitlines()
    assert lines[-2:] == ["a  1", "b  2"]
    assert all(len(line) <= 40 for line in lines if name not in line)
    text = f"warning: {name}: found the value 3, which no label of the config has"
    assert " ".join(" ".join(lines[:-2]).split()) == text


@pytest.mark.parametrize(("quiet", "expected"), [(False, "warning: no cache\n"), (True, "")])
def test_warnings_of_matplotlib_follow_quiet(capsys, quiet, expected):
    console.listen(quiet=quiet)
    logging.getLogger("matplotlib").warning("no cache")
    assert capsys.readouterr().err == expected


def test_that_matplotlib_has_no_home_is_not_said(capsys):
    logging.getLogger("matplotlib").warning("set the MPLCONFIGDIR environment variable")
    assert capsys.readouterr().err == ""


def test_plain_lines_show_speed_and_time_left_now_and_then(capsys, clock):
    with console.progress("train", done=10) as bar:
        bar(11, 100, "loss 3")
        clock[0] += 9.9
        bar(20, 100, "loss 2")
        clock[0] += 0.1
        bar(30, 100, "loss 1")
        clock[0] += 5
        bar(35, 100)
    assert capsys.readouterr() == ("", "train 30/100, 2/s, 0:00:35 left, loss 1\n")


def test_the_total_may_change(capsys, screen, clock):
    for log_every in (0, None):
        with console.progress("check", log_every=log_every) as bar:
            clock[0] += 2
            bar(10, 30, "a.tif")
            bar(10, 40, "b.tif")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "check 10/30, 5/s, 0:00:04 left, a.tif",
        "check 10/40, 5/s, 0:00:06 left, b.tif",
    ]
    assert "10/40" in screen.getvalue()


def test_lines_appear_as_often_as_asked_on_a_terminal_too(capsys, screen, clock):
    with console.progress("train", log_every=0.5) as bar:
        for done in range(1, 7):
            clock[0] += 0.25
            bar(done, 10)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["train 2/10", "train 4/10", "train 6/10"]
    assert screen.getvalue() == ""


def test_lines_may_follow_each_other_at_once(capsys, clock):
    with console.progress("train", log_every=0) as bar:
        bar(1, 2)
        clock[0] += 1
        bar(2, 2)
    assert capsys.readouterr().err == "train 1/2, 0/s, ? left\ntrain 2/2, 2/s, 0:00:00 left\n"


def test_without_progress_the_time_left_is_unknown(capsys, clock):
    with console.progress("train") as bar:
        clock[0] += 10
        bar(0, 100)
    assert capsys.readouterr().err == "train 0/100, 0/s, ? left\n"


def test_what_the_library_logs_appears_on_stderr(capsys):
    log.info("[epoch] 1, 50%")
    log.warning("careful [x]")
    log.debug("not this")
    assert capsys.readouterr() == ("", "[epoch] 1, 50%\nwarning: careful [x]\n")


def test_other_libraries_are_not_printed(capsys):
    logging.getLogger("another").warning("hello")
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet_but_for_warnings_and_errors(capsys, screen, clock):
    console.listen(quiet=True)
    for log_every in (0, None):
        with console.progress("train", log_every=log_every) as bar:
            clock[0] += 99
            log.info("hello")
            logging.getLogger("matplotlib").warning("a font is missing")
            bar(1, 1)
    assert (*capsys.readouterr(), screen.getvalue()) == ("", "", "")
    log.warning("do not trust this")
    console.error("a failure")
    assert "do not trust this" in screen.getvalue()
    assert "a failure" in screen.getvalue()


def test_a_terminal_shows_a_bar_and_lines_above_it(screen):
    with console.progress("train", done=1) as bar:
        log.info("[epoch] 1")
        bar(2, 3, "loss 0.5")
    for part in ("train", "2/3", "loss 0.5", "[epoch] 1"):
        assert part in screen.getvalue()


def test_nothing_is_left_of_a_bar(screen):
    with console.progress("train") as bar:
        bar(3, 3, "loss 0.5")
    log.info("done")
    # Its line is erased before anything else is printed.
    assert screen.getvalue().rpartition("\x1b[2K")[2] == "done\n"


def test_results_for_people_fit_the_terminal_and_paths_stay_whole(capsys, monkeypatch):
    text = "task   a long explanation of what is to be done\nplace  /a/path/longer/than/the/line"
    path = "/another/path with spaces/that is long.tif"
    console.result_text(text)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    console.result_text(text)
    console.result(path)
    assert console.columns([["run", "psnr", "ssim", "mae"], ["a", "1234", "5678", "9"]]) == (
        "run  psnr  ssim  mae\na    1234  5678  9"
    )
    assert console.columns([["run", "psnr", "loss", "mae"], ["a/b", "12345", "6", "9"]]) == (
        "run  psnr   loss\na/b  12345  6\n\nrun  mae\na/b  9"
    )
    assert capsys.readouterr().out.splitlines() == [
        *text.splitlines(),
        "task   a long",
        "       explanation",
        "       of what is to",
        "       be done",
        "place",
        "       /a/path/longer/than/the/line",
        path,
    ]


def test_names_stay_with_their_values(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "34")
    console.result_text("epoch 1/2, loss 0.5, validation 0.25, psnr 30 (doing nothing 20)")
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2, loss 0.5,",
        "  validation 0.25,",
        "  psnr 30 (doing nothing 20)",
    ]


@pytest.mark.parametrize(
    ("columns", "widths"),
    [(None, [94, 0, 94]), ("70", [62, 0, 62, 0, 62, 0, 62]), ("0", [94, 0, 94])],
)
def test_tables_in_files_are_as_wide_as_a_page(monkeypatch, columns, widths):
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    cells = [[f"{i:>30}" for i in range(5)]]
    assert [len(line) for line in console.columns(cells).splitlines()] == widths


def test_notes_of_progress_do_not_control_the_terminal(capsys, screen, clock):
    shown = "a\\x1b[2Jb\\nc\\x9b.tif"
    for log_every in (None, 0):
        with console.progress("predict", log_every=log_every) as bar:
            clock[0] += 1
            bar(1, 2, "a\x1b[2Jb\nc\x9b.tif")
    assert shown in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert capsys.readouterr().err.endswith(f", {shown}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_results_reach_a_file_although_a_bar_is_on_the_terminal():
    import pty

    code = (
        "from msdtool.cli import console\n"
        "with console.progress('predict') as bar:\n"
        "    bar(1, 2)\n"
        "    console.result('out/a.tif')\n"
    )
    _screen, stderr = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=stderr, check=True
    )
    assert done.stdout == b"out/a.tif\n"


def test_lines_of_an_error_are_indented_and_never_markup(capsys, screen, monkeypatch):
    message = "data[0]: [bold]no[/]\nsecond line"
    expected = "error: data[0]: [bold]no[/]\n       second line\n"
    console.error(message)
    plain = screen.getvalue().replace("\x1b[1;31m", "").replace("\x1b[0m", "")
    assert plain == expected
    monkeypatch.undo()
    console.error(message)
    assert capsys.readouterr().err == expected


def test_long_messages_are_not_broken(capsys):
    path = "/folder" * 60
    console.error(f"{path}: no such file")
    assert capsys.readouterr().err == f"error: {path}: no such file\n"


def test_json_has_null_for_what_is_not_a_number(capsys):
    console.result_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"é": (1, 2)}})
    assert capsys.readouterr().out == '{"a": null, "b": [null, 1.5], "c": {"é": [1, 2]}}\n'


@given(st.integers(0, 10**6))
def test_a_clock_shows_hours_minutes_and_seconds(seconds):
    hours, minutes, rest = map(int, console.clock(seconds).split(":"))
    assert 3600 * hours + 60 * minutes + rest == seconds
    assert minutes < 60 and rest < 60


def test_tables_are_aligned():
    assert console.table({"a": 1, "long": "x"}) == "a     1\nlong  x"

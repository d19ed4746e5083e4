import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from msdtool.cli import console


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        console, "_stderr", Console(file=screen, force_terminal=True, highlight=False, width=200)
    )
    return screen


def test_plain_lines_come_now_and_then_with_speed_and_time_left(capsys, clock):
    with console.progress("train", 100, completed=10) as bar:
        bar.update(11, "loss 3")
        clock[0] += 9.9
        bar.update(20, "loss 2")
        clock[0] += 0.1
        bar.update(30, "loss 1")
        clock[0] += 5
        bar.update(35)
    assert capsys.readouterr() == ("", "train 30/100, 2/s, 0:00:35 left, loss 1\n")


def test_how_much_there_is_may_turn_out_later(capsys, terminal, clock):
    for log_every in (0, None):
        with console.progress("check", 0, log_every=log_every) as bar:
            clock[0] += 2
            bar.update(10, "a.tif", total=30)
    assert capsys.readouterr().err == "check 10/30, 5/s, 0:00:04 left, a.tif\n"
    assert "10/30" in terminal.getvalue()


def test_lines_come_as_often_as_one_likes_on_a_terminal_too(capsys, terminal, clock):
    with console.progress("train", 10, log_every=0.5) as bar:
        for completed in range(1, 7):
            clock[0] += 0.25
            bar.update(completed)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["train 2/10", "train 4/10", "train 6/10"]
    assert terminal.getvalue() == ""


def test_lines_may_come_without_a_pause(capsys, clock):
    with console.progress("train", 2, log_every=0) as bar:
        bar.update(1)
        clock[0] += 1
        bar.update(2)
    assert capsys.readouterr().err == "train 1/2, 0/s, ? left\ntrain 2/2, 2/s, 0:00:00 left\n"


def test_without_progress_there_is_no_time_left(capsys, clock):
    with console.progress("train", 100) as bar:
        clock[0] += 10
        bar.update(0)
    assert capsys.readouterr().err == "train 0/100, 0/s, ? left\n"


def test_what_is_said_comes_at_once_on_stderr(capsys):
    with console.progress("train", 1) as bar:
        bar.say("[epoch] 1")
    assert capsys.readouterr() == ("", "[epoch] 1\n")


def test_quiet_is_quiet(capsys, clock):
    with console.progress("train", 1, quiet=True) as bar:
        clock[0] += 99
        bar.say("hello")
        bar.update(1)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(terminal):
    with console.progress("train", 3, completed=1) as bar:
        bar.say("[epoch] 1")
        bar.update(2, "loss 0.5")
    text = terminal.getvalue()
    for part in ("train", "2/3", "loss 0.5", "[epoch] 1"):
        assert part in text


def test_messages_are_not_markup_and_their_lines_are_aligned(capsys):
    console.error("data[0]: [bold]no[/]\nsecond line")
    console.warn("careful [x]")
    assert capsys.readouterr().err == (
        "error: data[0]: [bold]no[/]\n       second line\nwarning: careful [x]\n"
    )


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


def test_numbers_are_short():
    assert [console.number(value) for value in (1 / 3, 12, None)] == ["0.33333", "12", "None"]

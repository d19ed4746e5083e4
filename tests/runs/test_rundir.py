import json
import math
import os
import socket
from pathlib import Path

import pytest

from msdtool.errors import Error, ModelFileError, RunDirectoryError
from msdtool.lock import LOCK_NAME, Lock
from msdtool.runs import rundir
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.evaluations import read_evaluation, save_evaluation
from msdtool.runs.rundir import RunDirectory, writing


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(tmp_path / "runs" / "one")


def start(run: RunDirectory) -> None:
    """Leave what a run leaves, and a note of the user's."""
    run.claim(resume=False, overwrite=False)
    for path in (run.last, run.best, run.previews / "best.png", run.report / "curves.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"content")
    for path in (run.config, run.environment, run.metrics, run.log_file, run.path / "note.txt"):
        path.write_text("content")


@pytest.mark.parametrize("resume", [False, True])
def test_a_new_folder_is_made_with_its_parents_and_removed_if_nothing_comes_into_it(run, resume):
    parents = [folder for folder in run.path.parents if not folder.exists()]
    run.claim(resume=resume, overwrite=False)
    assert run.path.is_dir()
    run.release()
    assert not any(folder.exists() for folder in [run.path, *parents])


def test_an_empty_folder_is_taken(run):
    run.path.mkdir(parents=True)
    run.claim(resume=False, overwrite=False)


def test_a_folder_that_holds_a_run_is_refused_with_all_ways_out(run):
    start(run)
    with pytest.raises(RunDirectoryError) as error:
        run.claim(resume=False, overwrite=False)
    assert error.value.message == (
        f"{run.path}: already holds a run; resume it, overwrite it, or choose another run.directory"
    )
    assert error.value.hint_key == "resume overwrite run.directory"
    assert error.value.exit_code == 2


@pytest.mark.parametrize("left", ["environment.json", "checkpoints/last.pt"])
def test_either_an_environment_or_a_checkpoint_makes_a_run(run, left):
    (run.path / left).parent.mkdir(parents=True)
    (run.path / left).touch()
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        run.claim(resume=False, overwrite=False)


def test_resuming_keeps_every_file(run):
    start(run)
    run.release()
    before = set(run.path.rglob("*"))
    run.claim(resume=True, overwrite=False)
    run.release()
    assert set(run.path.rglob("*")) == before


def test_overwriting_removes_what_a_run_writes_and_nothing_else(run):
    start(run)
    (run.path / "report").mkdir(exist_ok=True)
    (run.path / "report" / "thesis.tex").write_text("years of work")
    run.evaluation.write_text("{}")
    run.claim(resume=False, overwrite=True)
    run.clear()
    run.release()
    assert {path.name for path in run.path.rglob("*") if path.is_file()} == {
        "note.txt",
        "thesis.tex",
    }


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_a_config_of_the_users_own_does_not_make_a_run(run, flag):
    run.path.mkdir(parents=True)
    (run.path / "config.yaml").write_text("# my notes")
    with pytest.raises(RunDirectoryError, match="holds files that are not a run"):
        run.claim(**{"resume": False, "overwrite": False, flag: True})


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_a_folder_of_other_files_is_never_taken(run, flag):
    run.path.mkdir(parents=True)
    (run.path / "thesis.tex").write_text("years of work")
    flags = {"resume": False, "overwrite": False, flag: True}
    with pytest.raises(RunDirectoryError, match="holds files that are not a run"):
        run.claim(**flags)
    assert (run.path / "thesis.tex").read_text() == "years of work"


def test_a_file_is_not_a_run_directory(run):
    run.path.parent.mkdir()
    run.path.touch()
    with pytest.raises(RunDirectoryError, match=r"is a file; choose another run\.directory"):
        run.claim(resume=False, overwrite=False)


def test_a_folder_below_a_file_says_why_it_cannot_be_made(run):
    run.path.parent.touch()
    with pytest.raises(RunDirectoryError, match="cannot be used as run directory: Not a directory"):
        run.claim(resume=False, overwrite=False)


def test_a_run_killed_while_it_wrote_its_first_file_can_be_resumed(run):
    run.path.mkdir(parents=True)
    (run.path / ".config.yaml.1234.part").write_text("task: regr")
    (run.path / ".lock").touch()
    run.claim(resume=True, overwrite=False)
    run.release()
    assert not any(run.path.iterdir())


def test_what_a_killed_process_was_writing_is_removed(run):
    start(run)
    (run.checkpoints / ".last.pt.1234.part").write_bytes(b"half")
    (run.previews / ".best.png.1234.part").write_bytes(b"half")
    run.claim(resume=True, overwrite=False)
    run.release()
    assert not list(run.path.rglob(".*"))
    assert run.last.exists()


def test_rows_come_back_as_they_went_in(run):
    run.claim(resume=False, overwrite=False)
    assert run.read_rows() == []
    assert run.metrics_bytes == 0
    rows = [{"epoch": 1, "name": "naïve"}, {"epoch": 2, "iou": {"0": 0.1, "255": 1 / 3}}]
    for row in rows:
        run.append_row(row)
    assert run.read_rows() == rows
    assert run.metrics_bytes == run.metrics.stat().st_size


def test_what_is_not_a_number_becomes_null(run):
    run.claim(resume=False, overwrite=False)
    run.append_row({"ssim": math.nan, "psnr": math.inf, "iou": {"0": math.nan, "1": 0.5}})

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    row = json.loads(run.metrics.read_text(), parse_constant=refuse)
    assert row == {"ssim": None, "psnr": None, "iou": {"0": None, "1": 0.5}}


def test_log_lines_carry_the_time(run):
    run.claim(resume=False, overwrite=False)
    run.log("first")
    run.log("second")
    lines = run.log_file.read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["first", "second"]
    assert all(line[:4].isdigit() and line[10] == " " for line in lines)


def test_a_failure_to_write_names_the_file_and_what_to_do():
    with (
        pytest.raises(
            Error, match=r"/x/last.pt: cannot be written: No space left.*resume"
        ) as error,
        writing(Path("/x/last.pt")),
    ):
        raise OSError(28, os.strerror(28))
    assert error.value.hint_key == "resume"


def test_a_directory_that_another_process_uses_is_refused(run):
    run.path.mkdir(parents=True)
    lock = Lock(run.path / LOCK_NAME)
    with pytest.raises(RunDirectoryError) as error:
        run.claim(resume=True, overwrite=False)
    assert error.value.message == (
        f"{run.path}: process {os.getpid()} on {socket.gethostname()} is using this run directory; "
        "wait for it to end, stop it, or choose another run.directory"
    )
    assert error.value.hint_key == "run.directory"
    lock.release()
    run.claim(resume=True, overwrite=False)


def test_a_directory_can_be_claimed_again_by_its_holder(run):
    for _ in range(2):
        run.claim(resume=True, overwrite=False)


def read_log(run):
    return run.last_logged


READERS = {
    "metrics.jsonl": RunDirectory.read_rows,
    "log.txt": read_log,
    "report/evaluation.json": read_evaluation,
    "checkpoints/best.pt": lambda run: load_checkpoint(run.best),
}
WRITERS = {
    "metrics.jsonl": lambda run: run.append_row({"step": 1}),
    "log.txt": lambda run: run.log("a"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_instead_of_waited_for(run, name, kind):
    place = run.path / name
    place.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(ModelFileError) as error:
        READERS[name](run)
    assert error.value.message == (
        f"{place}: cannot be read: it is a {kind}; save what it contains as a file"
    )
    if name in WRITERS:
        with pytest.raises(Error, match=rf"{name}: cannot be written: it is a {kind}; remove it"):
            WRITERS[name](run)


def test_an_evaluation_of_a_pipe_is_not_waited_for(run):
    save_evaluation(run, {"output": {}, "intervals": {}, "images": [], "confusion": None})
    run.checkpoints.mkdir()
    os.mkfifo(run.last)
    with pytest.raises(ModelFileError, match=r"last\.pt: cannot be read: it is a pipe"):
        read_evaluation(run)


def test_rows_are_read_to_a_limit_and_of_the_log_only_the_end(run, monkeypatch):
    run.path.mkdir(parents=True)
    run.append_row({"note": "a" * 300})
    assert len(run.read_rows()) == 1
    monkeypatch.setattr(rundir, "MAX_BYTES", 300)
    with pytest.raises(
        ModelFileError, match=r"metrics\.jsonl: cannot be read: it exceeds the limit of"
    ):
        run.read_rows()
    monkeypatch.setattr(rundir, "MAX_LINE_BYTES", 40)
    run.log("a" * 100)
    run.log("done")
    assert run.last_logged == "done"

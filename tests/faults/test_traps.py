"""What others lay under our names in a shared folder never leads to a file of the user."""

import os
import stat

import numpy as np
import pytest

from msdtool.data.sinks import Journal
from msdtool.errors import Error
from msdtool.predict import Predictor, plan_jobs, predict, results
from msdtool.predict.work import _Work
from tests.cli.conftest import contents


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "home" / "thesis.tex"
    path.parent.mkdir()
    path.write_text("mine" * 1000)
    return path


@pytest.fixture
def job(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((3, 20, 24), np.float32))
    (job,) = plan_jobs(tmp_path / "v.npy", tmp_path / "out")
    return job


def in_strips(run, **options):
    predictor = Predictor.load(run, "cpu", **options)
    predictor.fits = lambda _: False
    return predictor


def test_the_folder_of_strips_is_no_link(regression_run, tmp_path, job, victim, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "foreseen").symlink_to(victim.parent)
    monkeypatch.setattr(_Work, "_channels_folder", lambda *_: scratch / "foreseen")
    before = contents(victim.parent)
    with pytest.raises(Error) as error:
        list(predict(in_strips(regression_run, scratch=scratch), [job]))
    assert f"{scratch}/foreseen is not a folder owned by this user" in error.value.message
    assert error.value.hint_key == "scratch"
    assert contents(victim.parent) == before and not job.output.exists()


def test_strips_are_for_this_user_s_eyes_alone(regression_run, tmp_path, job):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    modes = []

    def look(*_):
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in scratch.iterdir())
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in scratch.glob("*/channels-*"))

    list(predict(in_strips(regression_run, scratch=scratch), [job], progress=look))
    assert set(modes) == {0o700, 0o600}


class Killed(BaseException):
    """The process ends."""


def stop_in_the_middle(run, job, monkeypatch):
    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(results, "SECONDS_BETWEEN_SAVES", 0)
        patch.setattr(results.Results, "leave", lambda _: None)
        patch.setattr("msdtool.lock._release", lambda lock, *_: lock.release())
        with pytest.raises(Killed):
            list(predict(Predictor.load(run, "cpu"), [job], progress=kill))


@pytest.mark.parametrize("lay", [os.symlink, os.link], ids=["link", "second name"])
def test_no_unfinished_result_is_continued_through_a_link(
    regression_run, job, victim, monkeypatch, lay
):
    stop_in_the_middle(regression_run, job, monkeypatch)
    partial = Journal(job.output).partial()
    partial.unlink()
    lay(victim, partial)
    before = victim.read_text()
    list(predict(Predictor.load(regression_run, "cpu"), [job]))
    assert victim.read_text() == before
    assert np.load(job.output).shape == (3, 20, 24) and not job.output.is_symlink()
    assert [path.name for path in job.output.parent.iterdir()] == ["v.npy"]


@pytest.mark.parametrize("lay", [os.symlink, os.link], ids=["link", "second name"])
def test_a_lock_writes_into_no_file_of_the_user(regression_run, job, victim, lay):
    job.output.parent.mkdir()
    lay(victim, job.output.with_name(".v.npy.lock"))
    before = victim.read_text()
    try:
        list(predict(Predictor.load(regression_run, "cpu"), [job]))
    except Error as error:
        assert lay is os.symlink
        assert error.message.startswith(f"{job.output}: cannot be written: ")
    else:
        assert lay is os.link
    assert victim.read_text() == before

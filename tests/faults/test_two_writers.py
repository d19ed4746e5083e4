"""Two predictions of the same result at once: the second is refused and names the first."""

import errno
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from msdtool.atomic import put
from msdtool.data.sinks import SUFFIXES, Sink
from msdtool.errors import Error
from msdtool.predict import Predictor, plan_jobs, predict, results
from tests.cli.conftest import contents


@pytest.fixture(params=["flock", "no flock"])
def locks(request, monkeypatch):
    """File systems with and without locks."""

    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if request.param == "no flock":
        monkeypatch.setattr("fcntl.flock", unsupported)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "v.npy"
    np.save(path, np.random.default_rng(0).random((5, 20, 24), np.float32))
    return path


def written(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if not name.endswith(".h5")}


@pytest.mark.parametrize("strips", [False, True], ids=["images", "strips"])
@pytest.mark.parametrize("format", SUFFIXES)
def test_the_second_writer_is_refused_and_the_first_goes_on(
    regression_run, tmp_path, volume, locks, format, strips
):
    pytest.importorskip("zarr", "3")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    predictor = Predictor.load(regression_run, "cpu", scratch=scratch)
    if strips:
        predictor.fits = lambda _: False
    jobs = plan_jobs(volume, tmp_path / "out", format=format)
    refused = []

    def disturb(done, _total, _name):
        if done in (1, 3):
            for options in ({}, {"overwrite": True}, {"skip_existing": True}):
                with pytest.raises(Error) as error:
                    list(predict(predictor, jobs, **options))
                refused.append((error.value.exit_code, error.value.message))

    list(predict(predictor, jobs, progress=disturb))
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    message = f"{jobs[0].output}: {holder} is writing this result; wait for it to end, or stop it"
    assert len(refused) >= 6 and set(refused) == {(1, message)}
    list(predict(predictor, plan_jobs(volume, tmp_path / "alone", format=format)))
    assert written(tmp_path / "out") == written(tmp_path / "alone")
    assert list(scratch.iterdir()) == []


class Killed(BaseException):
    """The process ends."""


@pytest.mark.parametrize("format", SUFFIXES)
@pytest.mark.parametrize("when", ["named", "complete"])
def test_a_process_killed_at_its_end_leaves_nothing_in_the_end(
    regression_run, tmp_path, volume, monkeypatch, format, when
):
    """Just before, or just after, the complete result gets its name."""
    pytest.importorskip("zarr", "3")
    monkeypatch.setattr(results, "SECONDS_BETWEEN_SAVES", 0)
    predictor = Predictor.load(regression_run, "cpu")
    jobs = plan_jobs(volume, tmp_path / "out", format=format)

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(results.Results, "leave", lambda _: None)
        # A killed process leaves the file of its lock.
        patch.setattr("msdtool.lock._release", lambda lock, *_: lock.release())
        if when == "complete":
            patch.setattr(Sink, "finish", kill)
        else:
            patch.setattr("msdtool.data.sinks.base.put", lambda *names: (put(*names), kill()))
        with pytest.raises(Killed):
            list(predict(predictor, jobs))
    assert jobs[0].is_done() == (when == "named")
    (done,) = predict(predictor, jobs, skip_existing=True)
    assert done.skipped == (when == "named")
    list(predict(predictor, plan_jobs(volume, tmp_path / "alone", format=format)))
    assert contents(tmp_path / "out").keys() == contents(tmp_path / "alone").keys()
    assert written(tmp_path / "out") == written(tmp_path / "alone")

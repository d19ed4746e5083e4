"""Files are predicted as they arrive, once each is complete."""

import logging

import numpy as np
import pytest
import tifffile

from msdtool.data.build import locate
from msdtool.errors import ConfigError, InputError
from msdtool.predict import Predictor, plan_jobs, predict
from msdtool.predict.watching import SECONDS_BETWEEN_LOOKS, SETTLED_SECONDS, Arrivals, watch
from tests.predict.test_strips import make_model

RNG = np.random.default_rng(0)


class Scan:
    """A folder into which an instrument writes; time passes only while somebody waits."""

    def __init__(self, folder):
        self.folder, self.now, self.plan = folder, 0.0, {}
        folder.mkdir()

    def at(self, second, name, image=None):
        """Write an image, or bytes that are none, at a time."""
        self.plan[second, name] = image

    def wait(self, seconds):
        self.now += seconds
        for second, name in sorted(key for key in self.plan if key[0] <= self.now):
            content = self.plan.pop((second, name))
            if isinstance(content, bytes):
                (self.folder / name).write_bytes(content)
            else:
                tifffile.imwrite(self.folder / name, content)

    def clock(self):
        return self.now

    def find(self):
        return (
            locate([str(file) for file in sorted(self.folder.iterdir())])
            if any(self.folder.iterdir())
            else []
        )


@pytest.fixture
def scan(tmp_path):
    return Scan(tmp_path / "scan")


@pytest.fixture
def predictor():
    return Predictor(make_model(), "cpu")


def image():
    return RNG.random((20, 24), np.float32)


def watched(scan, predictor, output, idle=30.0, **options):
    """The files that were predicted, and when."""
    found = watch(
        predictor,
        Arrivals(scan.find, scan.clock),
        lambda files: plan_jobs(files, output),
        idle_seconds=idle,
        wait=scan.wait,
        clock=scan.clock,
        **options,
    )
    return [(item.job.input.name, scan.now, item.skipped) for item in found]


def test_files_are_predicted_when_they_are_complete(scan, predictor, tmp_path):
    scan.at(1, "a.tif", image())
    scan.at(12, "b.tif", image())
    first, again = 1 + SETTLED_SECONDS, 12 + SETTLED_SECONDS
    assert watched(scan, predictor, tmp_path / "out") == [
        ("a.tif", first, False),
        ("b.tif", again, False),
    ]
    assert scan.now == again + 30
    list(predict(predictor, plan_jobs(str(scan.folder), tmp_path / "whole")))
    for name in ("a.tif", "b.tif"):
        found = (tmp_path / "out" / name).read_bytes()
        assert found == (tmp_path / "whole" / name).read_bytes()


def test_a_file_that_grows_is_waited_for(scan, predictor, tmp_path):
    whole = image()
    tifffile.imwrite(tmp_path / "whole.tif", whole)
    content = (tmp_path / "whole.tif").read_bytes()
    for second in range(1, 9):
        scan.at(second, "a.tif", content[: len(content) * second // 9])
    scan.at(9, "a.tif", content)
    assert watched(scan, predictor, tmp_path / "out") == [("a.tif", 9 + SETTLED_SECONDS, False)]


def test_results_that_exist_stay_unless_the_file_changes(scan, predictor, tmp_path):
    tifffile.imwrite(scan.folder / "a.tif", image())
    (done,) = predict(predictor, plan_jobs(str(scan.folder), tmp_path / "out"))
    before = done.job.output.read_bytes()
    scan.at(10, "a.tif", image())
    found = watched(scan, predictor, tmp_path / "out")
    assert found == [("a.tif", SETTLED_SECONDS, True), ("a.tif", 10 + SETTLED_SECONDS, False)]
    assert done.job.output.read_bytes() != before


def test_a_file_that_cannot_be_used_is_tried_again_when_it_changes(
    scan, predictor, tmp_path, caplog
):
    scan.at(1, "a.tif", b"II*\0 and no more")
    scan.at(2, "b.tif", image())
    scan.at(20, "a.tif", image())
    with caplog.at_level(logging.WARNING):
        found = watched(scan, predictor, tmp_path / "out")
    assert [name for name, *_ in found] == ["b.tif", "a.tif"]
    (message,) = caplog.messages
    assert message.startswith(f"{scan.folder}/a.tif: ")
    assert message.endswith("; it is tried again when it changes")


def test_what_could_not_be_used_is_an_error_at_the_end(scan, predictor, tmp_path):
    scan.at(1, "a.tif", b"II*\0 and no more")
    scan.at(1, "b.tif", image())
    with pytest.raises(InputError, match=r"^1 of 2 files could not be used, such as .*a\.tif: "):
        watched(scan, predictor, tmp_path / "out")
    assert (tmp_path / "out" / "b.tif").exists()


def test_a_stop_ends_it(scan, predictor, tmp_path):
    scan.at(1, "a.tif", image())
    scan.at(40, "b.tif", image())
    found = watched(scan, predictor, tmp_path / "out", idle=None, stop=lambda: scan.now > 30)
    assert [name for name, *_ in found] == ["a.tif"]
    assert scan.now <= 30 + 2 * SECONDS_BETWEEN_LOOKS


def test_slices_whose_neighbours_may_still_come_are_refused(scan, tmp_path):
    from dataclasses import replace

    model = replace(make_model(), slab=1)
    scan.at(1, "a.tif", image())
    with pytest.raises(ConfigError, match="the network needs 1 slices above and below"):
        watched(scan, Predictor(model, "cpu"), tmp_path / "out")


def test_a_store_that_grows_is_waited_for(scan, predictor, tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(scan.folder / "a.zarr", shape=(2, 20, 24), chunks=(1, 20, 24),
                              dtype="float32")  # fmt: skip
    array[0] = image()

    def wait(seconds):
        scan.now += seconds
        if scan.now == 4:
            array[1] = image()

    scan.wait = wait
    found = watched(scan, predictor, tmp_path / "out")
    assert found == [("a.zarr", 4 + SETTLED_SECONDS, False)]


def test_the_command_watches(cli, regression_run, tmp_path, monkeypatch):
    monkeypatch.setattr("msdtool.predict.watching.SETTLED_SECONDS", 0.0)
    monkeypatch.setattr("msdtool.predict.watching.SECONDS_BETWEEN_LOOKS", 0.01)
    (tmp_path / "scan").mkdir()
    arguments = ["predict", regression_run, tmp_path / "scan", "-o", tmp_path / "out", "--watch"]
    assert cli(*arguments, "--idle", "0.05s").code == 0  # an empty folder may fill
    tifffile.imwrite(tmp_path / "scan" / "a.tif", image())
    (tmp_path / "scan" / "Thumbs.db").touch()
    result = cli(*arguments, "--idle", "0.5s")
    assert (result.code, result.out) == (0, f"{tmp_path}/out/a.tif\n")
    assert result.err.count("Thumbs.db") == 1
    assert "no new image for 0.5s: stopped after 1 file" in result.err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--watch", "--overwrite"], "--watch and --overwrite: choose one"),
        (["--watch", "--missing"], "--watch and --missing: choose one"),
        (["--watch", "--num-parts", "2", "--part", "0"], "--watch and --num-parts: choose one"),
        (["--watch", "--idle", "soon"], "--idle: got 'soon'; expected a time such as 30s"),
        (["--idle", "5s"], "--idle: only --watch uses it"),
    ],
)
def test_what_does_not_go_with_watching_is_refused(cli, regression_run, tmp_path, options, message):
    result = cli("predict", regression_run, tmp_path, "-o", tmp_path / "out", *options)
    assert result.code == 2
    assert message in result.err


def test_a_name_that_leads_to_nothing_is_refused(cli, regression_run, tmp_path):
    for name in ("nowhere", "nowhere/*.tif"):
        path = tmp_path / name
        result = cli("predict", regression_run, path, "-o", tmp_path / "out", "--watch")
        assert result.code == 3
        assert str(path) in result.err

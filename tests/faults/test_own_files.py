"""What a command must not replace: its inputs, other people's files, work in progress."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tifffile
from PIL import Image

from msdtool.bench import correctness, suite
from msdtool.data import readers
from msdtool.demo import shapes
from msdtool.errors import ConfigError, RunDirectoryError
from msdtool.predict import Inputs, Predictor, plan_jobs, predict, results
from msdtool.runs.rundir import RunDirectory
from tests.helpers import PNG_START, write_experiment, write_noisy_pairs
from tests.predict.test_strips import make_model


@pytest.fixture
def images(tmp_path):
    """Two folders of two images each."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a.tif", "b.tif"):
            tifffile.imwrite(tmp_path / folder / name, np.ones((9, 9), np.float32))
    return tmp_path


@pytest.mark.parametrize("folder", ["one", "two"])
def test_no_split_is_replaced_by_the_result(images, folder):
    with pytest.raises(ConfigError, match=r"a\.tif: is one of the inputs; choose another"):
        plan_jobs(
            str(images / "one"), images / folder, other_splits=[str(images / "two")], format="tif"
        )


@pytest.mark.parametrize("format", ["files", "zarr"])
def test_a_folder_that_holds_inputs_is_not_replaced_by_a_result(images, format):
    folder = images / ("one" if format == "files" else "one.zarr")
    if format == "zarr":
        (images / "one").rename(folder)
    output = {"files": images, "zarr": folder}[format]
    with pytest.raises(ConfigError, match=f"{folder.name}: holds inputs; choose another output"):
        plan_jobs(f"{folder}/*.tif", output, stack=True, format=format)


def test_only_what_a_run_writes_is_cleared(tmp_path):
    run = RunDirectory(tmp_path / "run")
    own = ["checkpoints/best.pt", "checkpoints/last.pt", "previews/worst.png", "report/curves.png",
           "tensorboard/events.out.tfevents.1.host.2.0", "metrics.jsonl", "log.txt", "config.yaml",
           "environment.json", "metrics-damaged-1.jsonl"]  # fmt: skip
    others = ["checkpoints/mine.pt", "previews/figure.png", "tensorboard/events.txt", "notes.txt"]
    for name in own + others:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).touch()
    run.clear()
    left = [str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(others)


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_figure_replaces_no_other_kind_of_file(cli, regression_run, images, command):
    target = images / "one" / "a.tif"
    before = target.read_bytes()
    pairs = ["--input", images / "one", "--target", images / "two"] if command == "evaluate" else []
    result = cli(command, regression_run, *pairs, "--figure", target)
    assert result.code == 2
    assert f"{target}: cannot be written: it exists and is something else" in result.err
    assert target.read_bytes() == before


def test_an_earlier_trace_is_replaced_and_no_other_file(cli, tmp_path, monkeypatch):
    def run_suite(cases, *_, **__):
        return [[suite.Row(case, "msdtool")] for case in cases]

    monkeypatch.setattr(correctness, "check_engine", lambda _: {"float32": 0.0})
    monkeypatch.setattr(suite, "run_suite", run_suite)
    trace = tmp_path / "trace.json"
    command = ["bench", "--size", "16", "--depth", "1", "--profile", trace, "--quiet"]
    for _ in range(2):
        assert cli(*command).code == 0
    trace.write_text("mine")
    result = cli(*command)
    assert (result.code, trace.read_text()) == (2, "mine")
    assert f"{trace}: cannot be written: it exists and is something else" in result.err


def test_an_earlier_figure_is_replaced(cli, regression_run, tmp_path):
    figure = tmp_path / "a.png"
    figure.write_bytes(PNG_START)
    assert cli("report", regression_run, "--figure", figure).code == 0
    assert figure.stat().st_size > 1000


def test_a_figure_is_none_of_the_images(cli, regression_run, tmp_path):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((20, 24), 9, np.uint8)).save(tmp_path / folder / "a.png")
    figure = tmp_path / "out" / "a.png"
    pairs = ["--input", tmp_path / "in", "--target", tmp_path / "out"]
    result = cli("evaluate", regression_run, *pairs, "--figure", figure)
    assert result.code == 2
    assert f"{figure}: is one of the images; choose another name for the figure" in result.err


def test_a_data_set_does_not_replace_what_is_not_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "PARTS", {"train": 1, "test": 1})
    monkeypatch.setattr(shapes, "SIZE", 24)
    config = shapes.write_shapes(tmp_path / "set")
    assert shapes.write_shapes(tmp_path / "set") == config  # again is no harm
    config.write_text(config.read_text() + "# mine\n")
    with pytest.raises(RunDirectoryError, match=r"segment\.yaml: exists and is not what this"):
        shapes.write_shapes(tmp_path / "set")
    (tmp_path / "mine" / "train").mkdir(parents=True)
    with pytest.raises(RunDirectoryError, match=r"mine/train: exists and is not what this"):
        shapes.write_shapes(tmp_path / "mine")
    assert not any((tmp_path / "mine" / "train").iterdir())


def test_a_run_does_not_replace_its_users_config(cli, tmp_path):
    data = {"train": write_noisy_pairs(tmp_path / "images", 2)}
    config = write_experiment(tmp_path / "run" / "config.yaml", {"data": data})
    config.write_text(config.read_text() + "# why these values\n")
    before = config.read_text()
    for options in ([], ["--overwrite"]):
        result = cli("train", config, "--run-dir", tmp_path / "run", *options)
        assert result.code == 2
        assert f"{config}: the run would replace it by the config with all defaults" in result.err
    assert config.read_text() == before
    assert cli("train", config, "--run-dir", tmp_path / "other").code == 0
    saved = tmp_path / "other" / "config.yaml"
    assert cli("train", saved, "--overwrite").code == 0  # a run wrote it


def stop_after_one(predict, monkeypatch):
    """Predict a job of several images and stop after the first, keeping it."""
    monkeypatch.setattr(results, "SECONDS_BETWEEN_SAVES", 0.0)
    asked = []
    assert not list(predict(stop=lambda: len(asked) > 0 or asked.append(1)))


@pytest.mark.parametrize("kind", ["splits", "zarr", "h5 of links"])
def test_what_was_predicted_of_other_data_is_not_resumed(tmp_path, monkeypatch, kind):
    place = tmp_path / "in"
    place.mkdir()
    source, others, rewrite = KINDS[kind](place)
    model = make_model()
    if kind == "splits":
        model = replace(model, splits=2)
    predictor = Predictor(model, "cpu")

    def run(output, **options):
        jobs = plan_jobs(source, output, other_splits=others, format="npy")
        return predict(predictor, jobs, Inputs(predictor, [source, *others]), **options)

    rewrite(0)
    stop_after_one(partial(run, tmp_path / "out"), monkeypatch)
    rewrite(1)
    (done,) = run(tmp_path / "out")
    (whole,) = run(tmp_path / "whole")
    np.testing.assert_array_equal(np.load(done.job.output), np.load(whole.job.output))


def volume(seed):
    return np.random.default_rng(seed).random((5, 20, 24), np.float32)


def two_splits(place):
    tifffile.imwrite(place / "one.tif", volume(9))

    def rewrite(seed):
        tifffile.imwrite(place / "two.tif", volume(seed))

    return str(place / "one.tif"), [str(place / "two.tif")], rewrite


def chunks(place):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(place / "v.zarr", shape=(5, 20, 24), chunks=(1, 20, 24),
                              dtype="float32")  # fmt: skip

    def rewrite(seed):
        state = (place / "v.zarr").stat()
        array[:] = volume(seed)
        os.utime(place / "v.zarr", ns=(state.st_atime_ns, state.st_mtime_ns))

    return str(place / "v.zarr"), [], rewrite


def links(place):
    h5py = pytest.importorskip("h5py")
    with h5py.File(place / "master.h5", "w") as file:
        file["data"] = h5py.ExternalLink("part.h5", "data")

    def rewrite(seed):
        while readers._open:  # another process would not have it open
            readers._open.popitem()[1].close()
        with h5py.File(place / "part.h5", "w") as file:
            file["data"] = volume(seed)

    return str(place / "master.h5"), [], rewrite


KINDS = {"splits": two_splits, "zarr": chunks, "h5 of links": links}

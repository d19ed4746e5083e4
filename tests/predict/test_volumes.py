"""Volumes slice by slice: formats, resuming, full disks."""

import h5py
import numpy as np
import pytest
import tifffile
import torch

from msdtool.data.readers import read_image
from msdtool.data.sinks import Sink
from msdtool.data.specifiers import Location
from msdtool.errors import Error
from msdtool.predict import Predictor, plan_jobs, predict
from tests.predict.test_strips import make_model


@pytest.fixture
def volume(tmp_path):
    array = np.random.default_rng(1).random((7, 20, 24), np.float32)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["entry/data"] = array
    return array


@pytest.mark.parametrize("suffix", [".h5", ".tif", ".zarr", ".npy"])
def test_a_volume_of_slices_is_of_the_kind_that_is_asked_for(tmp_path, volume, suffix):
    predictor = Predictor(make_model(), "cpu")
    output = tmp_path / f"out{suffix}"
    jobs = plan_jobs(f"{tmp_path}/v.h5::/entry/data", output)
    (done,) = predict(predictor, jobs)
    assert done.job.output == output
    inner = "/entry/data" if suffix in (".h5", ".zarr") else ""
    for index, image in enumerate(volume):
        found = read_image(Location(output, inner), index=index)
        expected = predictor(torch.from_numpy(image[None]))
        np.testing.assert_array_equal(found, expected)


def test_a_result_is_of_the_kind_of_its_input(tmp_path, volume):
    jobs = plan_jobs([f"{tmp_path}/v.h5::/entry/data"], tmp_path / "out")
    assert jobs[0].output == tmp_path / "out" / "v.h5"
    np.save(tmp_path / "v.npy", volume)
    names = {
        format: plan_jobs(tmp_path / "v.npy", tmp_path / "out", format=format)[0].output.name
        for format in (None, "tif", "h5", "zarr", "npy", "files")
    }
    assert names == {
        None: "v.npy", "tif": "v.tif", "h5": "v.h5", "zarr": "v.zarr", "npy": "v.npy", "files": "v"
    }  # fmt: skip


def test_a_volume_is_resumed_where_it_was_stopped(tmp_path, volume):
    predictor = Predictor(make_model(), "cpu")
    jobs = plan_jobs(f"{tmp_path}/v.h5::/entry/data", tmp_path / "out")
    seen = []
    stop = predict(
        predictor,
        jobs,
        progress=lambda done, total, note: seen.append(done),
        stop=lambda: len(seen) == 3,
    )
    assert list(stop) == []
    assert seen == [1, 2, 3]
    partial, journal = sorted((tmp_path / "out").iterdir())
    assert partial.match(".v.h5.*.part") and journal.name == ".v.h5.part.json"
    (done,) = predict(predictor, jobs, progress=lambda done, total, note: seen.append(done))
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["v.h5"]
    with h5py.File(done.job.output) as file:
        found = file["entry/data"][:]
    expected = [predictor(torch.from_numpy(image[None]))[0].numpy() for image in volume]
    np.testing.assert_array_equal(found, expected)


def test_nothing_is_resumed_with_another_model_or_when_overwritten(tmp_path, volume):
    jobs = plan_jobs(f"{tmp_path}/v.h5::/entry/data", tmp_path / "out")
    seen = []

    def count(done, _total, _note):
        seen.append(done)

    for model, overwrite, expected in (
        (make_model(), False, 3),
        (make_model(depth=5), False, 3),
        (make_model(depth=5), True, 3),
        (make_model(depth=5), False, 6),
    ):
        seen.clear()
        first = predict(
            Predictor(model, "cpu"),
            jobs,
            progress=count,
            overwrite=overwrite,
            stop=lambda: len(seen) == 3,
        )
        assert list(first) == []
        assert seen[-1] == expected


def test_a_bad_slice_keeps_the_ones_before_it_for_a_later_try(tmp_path, volume):
    bad = volume.copy()
    bad[4, 0, 0] = np.nan
    np.save(tmp_path / "v.npy", bad)
    jobs = plan_jobs(tmp_path / "v.npy", tmp_path / "out")
    with pytest.raises(Error) as error:
        list(predict(Predictor(make_model(), "cpu"), jobs))
    assert error.value.message == (
        f"{tmp_path}/v.npy[4]: 1 of 480 values are NaN or infinite; replace them"
    )
    assert not jobs[0].output.exists()


def test_a_full_disk_in_the_middle_of_a_volume(tmp_path, volume, monkeypatch):
    jobs = plan_jobs(f"{tmp_path}/v.h5::/entry/data", tmp_path / "out", format="tif")
    write, predictor = Sink.write, Predictor(make_model(), "cpu")

    def fill(sink, index, *rest):
        if index == 3:
            raise Error("the disk is full")
        write(sink, index, *rest)

    monkeypatch.setattr(Sink, "write", fill)
    with pytest.raises(Error, match="the disk is full"):
        list(predict(predictor, jobs))
    monkeypatch.undo()
    seen = []
    list(predict(predictor, jobs, progress=lambda done, total, note: seen.append(done)))
    assert seen == [4, 5, 6, 7]
    assert tifffile.imread(jobs[0].output).shape == (7, 20, 24)

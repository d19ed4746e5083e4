"""Series of frames, a few of them in memory at a time."""

import tracemalloc

import numpy as np
import pytest
import tifffile
import torch

from msdtool.data.readers import read_image
from msdtool.data.specifiers import Location
from msdtool.errors import Error, InputError
from msdtool.nn.build import build_network
from msdtool.nn.streaming import Conv1d
from msdtool.nn.streaming.frames import InFrames
from msdtool.predict import Predictor, plan_jobs, predict
from tests.helpers import write_stack


def softmax(scores):
    e = np.exp(scores - scores.max(0))
    return e / e.sum(0)


def make_predictor(axis, dt, labels=(), *, memory_bytes=0):
    """A network of series whose frames depend on those before."""
    torch.manual_seed(0)
    description = {
        "c_in": 1, "c_out": len(labels) or 2, "depth": 2, "width": 1, "dilations": [1, 2],
        "ndim": 3, "stream": {"axis": axis, "dt": dt},
    }  # fmt: skip
    net = build_network(description).eval()
    torch.nn.init.normal_(net.msd.final_layer.linear.weight)
    model = {
        "task": "regression",
        "architecture": description,
        "state": net.state_dict(),
        "labels": list(labels),
        "ignore": None,
        "collapse_channels": False,
        "slab": 0,
        "splits": 0,
        "strategy": "X:1",
    }
    predictor = Predictor(model, "cpu")
    predictor.memory_bytes = memory_bytes  # with none, everything goes from file to file
    memory = InFrames(Conv1d(1, 1, 4, weights="random"))
    predictor.network.msd = torch.nn.Sequential(memory, predictor.network.msd)
    return predictor.network, predictor


def series_of(num_frames, axis=0):
    frames = np.random.default_rng(0).random((num_frames, 9, 7), np.float32)
    return np.ascontiguousarray(np.moveaxis(frames, 0, axis))


@pytest.mark.parametrize("format", ["tif", "npy", "h5"])
@pytest.mark.parametrize(("axis", "dt"), [(0, 1), (0, 4), (1, 3), (2, 100)])
def test_a_series_is_predicted_in_pieces_as_in_one(tmp_path, axis, dt, format):
    net, predictor = make_predictor(axis, dt)
    series = [series_of(11, axis), series_of(5, axis)]  # the second must not remember the first
    folder = write_stack(tmp_path / "series", series)
    jobs = plan_jobs(str(folder), tmp_path / "out", format=format)
    for volume, item in zip(series, predict(predictor, jobs), strict=True):
        expected = net(torch.from_numpy(volume)[None, None])[0].detach().numpy()
        written = read_image(Location(item.job.output, axes="CZYX"), 3)
        assert written.shape == (2, *volume.shape)
        np.testing.assert_allclose(written, expected, rtol=1e-6, atol=1e-6)


def test_a_segmented_series_holds_labels_and_probabilities(tmp_path):
    net, predictor = make_predictor(0, 3, labels=[0, 127, 255])
    folder = write_stack(tmp_path / "series", [series_of(8)])
    (job,) = plan_jobs(str(folder), tmp_path / "out", probabilities=True)
    list(predict(predictor, [job]))
    scores = net(torch.from_numpy(series_of(8))[None, None])[0].detach().numpy()
    written = tifffile.imread(job.output)
    assert written.dtype == np.uint8
    assert np.array_equal(written, np.array([0, 127, 255])[scores.argmax(0)])
    shares = tifffile.imread(job.probabilities)
    np.testing.assert_allclose(shares, softmax(scores), rtol=1e-5, atol=1e-6)


def test_a_long_series_needs_the_memory_of_a_few_frames(tmp_path):
    _, predictor = make_predictor(0, 4)
    series = np.random.default_rng(0).random((300, 64, 64), np.float32)
    folder = write_stack(tmp_path / "series", [series])
    sizes = []
    predictor.network.msd.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    tracemalloc.start()  # counts NumPy's arrays, not torch's
    try:
        list(predict(predictor, plan_jobs(str(folder), tmp_path / "out")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes == [4] * 75
    assert peak < 20 * series[:4].nbytes < series.nbytes


def test_a_series_in_time_is_read_as_the_file_names_its_axes(tmp_path):
    net, predictor = make_predictor(0, 4)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/a.tif", series_of(6), imagej=True, metadata={"axes": "TYX"})
    (item,) = predict(predictor, plan_jobs(str(tmp_path / "in"), tmp_path / "out"))
    expected = net(torch.from_numpy(series_of(6))[None, None])[0].detach().numpy()
    np.testing.assert_allclose(tifffile.imread(item.job.output), expected, rtol=1e-6, atol=1e-6)


def test_a_series_that_goes_wrong_in_the_middle_leaves_nothing(tmp_path):
    _, predictor = make_predictor(0, 4)
    series = series_of(10)
    series[7, 0, 0] = np.nan
    folder = write_stack(tmp_path / "series", [series, series_of(5)])
    jobs = plan_jobs(str(folder), tmp_path / "out")
    with pytest.raises(InputError, match=r"image_000\.tif: 1 of 252 values are NaN or infinite"):
        list(predict(predictor, jobs))
    assert not list((tmp_path / "out").iterdir())
    list(predict(predictor, jobs[1:]))  # nothing is remembered of it
    fresh = make_predictor(0, 4)[0](torch.from_numpy(series_of(5))[None, None])[0]
    np.testing.assert_allclose(tifffile.imread(jobs[1].output), fresh.detach(), 1e-6, 1e-6)


def test_a_series_that_fits_is_predicted_in_memory_with_the_same_result(tmp_path):
    folder = write_stack(tmp_path / "series", [series_of(11)])
    written = []
    for memory_bytes in (0, 2**30):
        _, predictor = make_predictor(0, 4, memory_bytes=memory_bytes)
        (item,) = predict(predictor, plan_jobs(str(folder), tmp_path / str(memory_bytes)))
        written.append(tifffile.imread(item.job.output))
    np.testing.assert_array_equal(*written)


def test_frames_that_do_not_fit_are_named(tmp_path):
    _, predictor = make_predictor(0, 4)

    def run_out(*_):
        raise torch.OutOfMemoryError

    predictor.network.msd.register_forward_pre_hook(run_out)
    folder = write_stack(tmp_path / "series", [series_of(11)])
    with pytest.raises(Error, match=r"image_000\.tif: 4 of its frames \(stream\.dt\) do not fit"):
        list(predict(predictor, plan_jobs(str(folder), tmp_path / "out")))
    assert not list((tmp_path / "out").iterdir())

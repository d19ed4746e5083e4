"""Series of frames predicted piece by piece, and continued where they were left."""

import os
import tracemalloc

import numpy as np
import pytest
import tifffile
import torch

from msdtool.architecture import Architecture, Stream
from msdtool.errors import InputError
from msdtool.nn.build import build_network
from msdtool.nn.streaming import Conv1d
from msdtool.nn.streaming.frames import InFrames
from msdtool.predict import Predictor, plan_jobs, predict, results
from tests.predict.models import model_of

from ..helpers import write_stack


def softmax(scores):
    e = np.exp(scores - scores.max(0))
    return e / e.sum(0)


def make_series_predictor(axis, dt, labels=()):
    """A network of series whose frames depend on those before."""
    torch.manual_seed(0)
    stream = Stream(axis, dt)
    description = Architecture(1, len(labels) or 2, 2, 1, (1, 2), ndim=3, stream=stream)
    net = build_network(description).eval()
    torch.nn.init.normal_(net.msd.final_layer.linear.weight)
    predictor = Predictor(model_of(net, description, labels), "cpu")
    memory = InFrames(Conv1d(1, 1, 4, weights="random"))
    predictor.network.msd = torch.nn.Sequential(memory, predictor.network.msd)
    return predictor.network, predictor


def series_of(num_frames, axis=0):
    frames = np.random.default_rng(0).random((num_frames, 9, 7), np.float32)
    return np.ascontiguousarray(np.moveaxis(frames, 0, axis))


@pytest.mark.parametrize(("axis", "dt"), [(0, 1), (0, 4), (1, 3), (2, 100)])
def test_a_series_is_predicted_in_pieces_as_in_one(tmp_path, axis, dt):
    net, predictor = make_series_predictor(axis, dt)
    series = [series_of(11, axis), series_of(5, axis)]  # the second must not remember the first
    folder = write_stack(tmp_path / "series", series)
    done = list(predict(predictor, plan_jobs(str(folder), tmp_path / "out")))
    for volume, item in zip(series, done, strict=True):
        expected = net(torch.from_numpy(volume)[None, None])[0].detach().numpy()
        written = tifffile.imread(item.job.output)
        assert written.shape == (2, *volume.shape)
        np.testing.assert_allclose(written, expected, rtol=1e-6, atol=1e-6)


def test_a_segmented_series_holds_labels_and_probabilities(tmp_path):
    net, predictor = make_series_predictor(0, 3, labels=[0, 127, 255])
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
    _, predictor = make_series_predictor(0, 4)
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
    net, predictor = make_series_predictor(0, 4)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/a.tif", series_of(6), imagej=True, metadata={"axes": "TYX"})
    (item,) = predict(predictor, plan_jobs(str(tmp_path / "in"), tmp_path / "out"))
    expected = net(torch.from_numpy(series_of(6))[None, None])[0].detach().numpy()
    np.testing.assert_allclose(tifffile.imread(item.job.output), expected, rtol=1e-6, atol=1e-6)


def test_a_series_that_goes_wrong_in_the_middle_leaves_nothing(tmp_path):
    _, predictor = make_series_predictor(0, 4)
    series = series_of(10)
    series[7, 0, 0] = np.nan
    folder = write_stack(tmp_path / "series", [series, series_of(5)])
    jobs = plan_jobs(str(folder), tmp_path / "out")
    with pytest.raises(InputError, match=r"image_000\.tif: 1 of 252 values are NaN or infinite"):
        list(predict(predictor, jobs))
    assert not (tmp_path / "out").exists()
    list(predict(predictor, jobs[1:]))  # nothing is remembered of it
    fresh = make_series_predictor(0, 4)[0](torch.from_numpy(series_of(5))[None, None])[0]
    np.testing.assert_allclose(tifffile.imread(jobs[1].output), fresh.detach(), 1e-6, 1e-6)


class Killed(BaseException):
    """The process ends."""


def end_after(predictor, num_pieces, how=Killed):
    """Have a predictor of series end the process after some pieces."""
    advance, count = predictor.advance, iter(range(num_pieces))

    def advance_or_end(*arguments):
        if next(count, None) is None:
            raise how
        return advance(*arguments)

    predictor.advance = advance_or_end


@pytest.mark.parametrize("is_killed", [False, True], ids=["interrupted", "killed"])
@pytest.mark.parametrize(
    ("format", "axis", "labels", "in_file"),
    [("tif", 0, (), 1), ("tif", 1, (0, 127, 255), 3), ("npy", 2, (), 1), ("files", 0, (), 3)],
)
def test_a_series_is_resumed_where_it_was_left(
    tmp_path, monkeypatch, is_killed, format, axis, labels, in_file
):
    """In the middle of the last series of a file; ``in_file`` says how many it holds."""
    monkeypatch.setattr(results, "SECONDS_BETWEEN_SAVES", 0 if is_killed else 1e9)
    volumes = np.random.default_rng(0).random((in_file, 11, 11, 11), np.float32)
    (tmp_path / "in").mkdir()
    axes = "TZYX" if in_file > 1 else "ZYX"
    content = volumes if in_file > 1 else volumes[0]
    tifffile.imwrite(tmp_path / "in/a.tif", content, imagej=True, metadata={"axes": axes})
    jobs = plan_jobs(
        str(tmp_path / "in"), tmp_path / "out", probabilities=bool(labels), format=format
    )
    _, first = make_series_predictor(axis, 2, labels)
    end_after(first, 6 * (in_file - 1) + 4)
    if is_killed:
        monkeypatch.setattr(results.Results, "leave", lambda self: None)
    with pytest.raises(Killed):
        list(predict(first, jobs))
    monkeypatch.undo()
    net, second = make_series_predictor(axis, 2, labels)
    sizes = []
    net.msd.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    list(predict(second, jobs))
    assert sizes == [2, 1]  # of 11 frames 8 were done
    whole = plan_jobs(
        str(tmp_path / "in"), tmp_path / "whole", probabilities=bool(labels), format=format
    )
    list(predict(make_series_predictor(axis, 2, labels)[1], whole))
    for folder in ("out", "whole"):
        assert not list((tmp_path / folder).glob(".*"))
    for there, other in zip(jobs[0].outputs, whole[0].outputs, strict=True):
        files = sorted(there.iterdir()) if format == "files" else [there]
        others = sorted(other.iterdir()) if format == "files" else [other]
        assert [file.name for file in files] == [file.name for file in others]
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(files, others, strict=True))


@pytest.mark.parametrize("damage", [b"", b"no file of torch", None])
def test_a_series_without_a_good_state_starts_from_scratch(tmp_path, damage):
    folder = write_stack(tmp_path / "series", [series_of(11)])
    jobs = plan_jobs(str(folder), tmp_path / "out")
    _, first = make_series_predictor(0, 2)
    end_after(first, 4)
    with pytest.raises(Killed):
        list(predict(first, jobs))
    (state,) = (tmp_path / "out").glob(".*.state")
    state.unlink() if damage is None else state.write_bytes(damage)
    net, second = make_series_predictor(0, 2)
    list(predict(second, jobs))
    expected = net(torch.from_numpy(series_of(11))[None, None])[0].detach().numpy()
    np.testing.assert_allclose(tifffile.imread(jobs[0].output), expected, rtol=1e-6, atol=1e-6)


def test_a_series_whose_file_changed_starts_from_scratch(tmp_path):
    folder = write_stack(tmp_path / "series", [series_of(11)])
    jobs = plan_jobs(str(folder), tmp_path / "out")
    _, first = make_series_predictor(0, 2)
    end_after(first, 4)
    with pytest.raises(Killed):
        list(predict(first, jobs))
    os.utime(jobs[0].input, ns=(1, 1))
    _, second = make_series_predictor(0, 2)
    sizes = []
    second.network.msd.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    list(predict(second, jobs))
    assert sum(sizes) == 11

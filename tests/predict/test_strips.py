"""Images that are too large for the memory are computed in strips."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import torch

from msdtool import MSDRegressionModel
from msdtool.architecture import Architecture
from msdtool.errors import Error
from msdtool.nn.build import build_network
from msdtool.ops.out_of_core.module import RESERVED_BYTES
from msdtool.predict import Predictor, plan_jobs, predict
from msdtool.predict.inputs import Slices
from tests.forked import Program
from tests.predict.models import model_of

ROOM = RESERVED_BYTES + 2_000_000


def make_model(ndim=2, c_out=1, labels=(), depth=6, dilations=(1, 2, 3)):
    torch.manual_seed(0)
    description = Architecture(1, len(labels) or c_out, depth, 1, tuple(dilations), ndim)
    network = build_network(description).eval()
    torch.nn.init.normal_(network.msd.final_layer.linear.weight)
    with torch.no_grad():
        network.scale_in.bias.fill_(0.3)
        network.scale_out.weight.mul_(2)
    return model_of(network, description, labels)


def small(model, **options):
    """A predictor for which every image is too large."""
    predictor = Predictor(model, "cpu", **options)
    predictor.usable_bytes = ROOM
    predictor.fits = lambda space: False
    return predictor


def run(predictor, source, output, **options):
    return list(predict(predictor, plan_jobs(source, output), **options))


@pytest.mark.parametrize("labels", [(), (0, 7, 255)])
@pytest.mark.parametrize(("ndim", "shape"), [(2, (900, 500)), (3, (60, 64, 70))])
def test_strips_give_what_the_whole_image_gives(tmp_path, ndim, shape, labels):
    model = make_model(ndim, labels=labels)
    image = np.random.default_rng(0).random(shape, np.float32)
    tifffile.imwrite(tmp_path / "a.tif", image)
    (done,) = run(small(model), tmp_path / "a.tif", tmp_path / "strips")
    (whole,) = run(Predictor(model, "cpu"), tmp_path / "a.tif", tmp_path / "whole")
    found, expected = (tifffile.imread(item.job.output) for item in (done, whole))
    assert found.shape == shape
    if labels:
        assert np.mean(found != expected) < 1e-4  # where two labels are level
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert found.std() > 0.1


def test_an_image_in_memory_is_computed_in_strips_too(tmp_path):
    model = make_model()
    image = torch.from_numpy(np.random.default_rng(0).random((1, 900, 500), np.float32))
    predictor = small(model)
    predictor.usable_bytes += image.nbytes * 2
    torch.testing.assert_close(predictor(image), Predictor(model, "cpu")(image))


def test_what_runs_out_of_memory_is_tried_in_strips(monkeypatch):
    model = make_model()
    image = torch.rand(1, 3000, 400)
    expected = Predictor(model, "cpu")(image)
    predictor = Predictor(model, "cpu")
    predictor.usable_bytes = 10**10
    asked = []

    def fail(_):
        asked.append(1)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(predictor.network, "forward", fail)
    monkeypatch.setattr(
        "msdtool.predict.computation.prediction_bytes", lambda *_: 2 * ROOM + 4 * 10**7
    )
    torch.testing.assert_close(predictor(image), expected)
    assert asked == [1]
    predictor(image)
    assert asked == [1]  # it has learnt


def test_too_little_memory_says_so(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((300, 4000), np.float32))
    predictor = small(make_model())
    predictor.usable_bytes = RESERVED_BYTES + 10_000
    with pytest.raises(Error) as error:
        run(predictor, tmp_path / "a.tif", tmp_path / "out")
    assert error.value.message.startswith(f"{tmp_path}/a.tif: the memory limit leaves 10000 bytes")
    assert error.value.message.endswith("; allow more memory, or use a machine with more")
    assert error.value.hint_key == "memory"
    assert not (tmp_path / "out").exists()


def test_scratch_that_is_missing_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((900, 500), np.float32))
    with pytest.raises(
        Error, match=r"its channels cannot be kept on disk.*No such file.*none; choose a"
    ):
        run(small(make_model(), scratch=tmp_path / "none"), tmp_path / "a.tif", tmp_path / "out")


@pytest.mark.parametrize("again", [{}, {"overwrite": True}])
@pytest.mark.parametrize(("depth", "dilations"), [(6, (1, 2, 3)), (20, (3, 6, 9))])  # passes: 1, 5
def test_an_image_is_resumed_in_the_middle(tmp_path, monkeypatch, again, depth, dilations):
    monkeypatch.setattr("msdtool.ops.out_of_core.resuming.SECONDS_BETWEEN_SAVES", 0.0)
    reads, seen = [], []

    class Watched(Slices):
        def __getitem__(self, key):
            reads.append(key)
            return super().__getitem__(key)

    monkeypatch.setattr("msdtool.predict.work.Slices", Watched)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    model = make_model(depth=depth, dilations=dilations)
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).random((900, 500), np.float32))
    predictor = small(model, scratch=scratch)
    arguments = predictor, tmp_path / "a.tif", tmp_path / "strips"

    def progress(done, _total, _note=""):
        seen.append(done)

    assert run(*arguments, progress=progress, stop=lambda: seen[-1] > 0.6) == []
    assert len(list(scratch.glob("*/channels-*"))) == 1
    reads.clear(), seen.clear()
    run(*arguments, **again, progress=progress)
    assert bool(reads) == bool(again)
    assert (seen[0] > 0.6) == (depth == 6 and not again)  # of what is left, if passes are done
    assert list(scratch.iterdir()) == []
    assert [path.name for path in (tmp_path / "strips").iterdir()] == ["a.tif"]
    run(Predictor(model, "cpu"), tmp_path / "a.tif", tmp_path / "whole")
    found, expected = (tifffile.imread(tmp_path / name / "a.tif") for name in ("strips", "whole"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_host_keeps_what_does_not_fit_a_gpu(tmp_path):
    predictor = Predictor(make_model(), "cpu")
    chosen = []
    predictor.network.msd.stream = lambda *_, buffer, **__: chosen.append(buffer)

    def stream(size):
        array = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1, size, size), (0, 0, 0))
        predictor.stream(array, array, "a.tif")

    stream(900)
    predictor.device = torch.device("cuda")
    stream(900)
    stream(10**6)  # 40 TB
    predictor.scratch = tmp_path
    stream(900)
    assert chosen == ["disk", "host", "disk", "disk"]


# Symmetries ------------------------------------------------------------------------------------


# Volumes slice by slice ------------------------------------------------------------------------


# Other processes -------------------------------------------------------------------------------

PREDICT = r"""
import re, sys
from msdtool.cli import main
sys.argv[1:1] = ["predict"]
try:
    main()
finally:
    print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def test_memory_keeps_to_the_limit(tmp_path):
    """The channels of the whole image are 460 MB, the process itself takes some 300."""
    model = MSDRegressionModel(1, 1, 50, 1)
    torch.nn.init.normal_(model.net.msd.final_layer.linear.weight, std=0.1)
    model.save(tmp_path / "model.pt", 1)
    image = np.random.default_rng(0).random((1500, 1500), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", image)
    limit = 640
    options = ["-o", tmp_path / "out", "--memory", f"{limit}MB", "--device", "cpu", "--quiet"]
    command = [sys.executable, "-c", PREDICT, tmp_path / "model.pt", tmp_path / "a.tif", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stderr.split()[-1]) * 1024 < limit * 10**6
    found = tifffile.imread(tmp_path / "out" / "a.tif")
    with torch.no_grad():
        expected = model.net(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_work_of_a_killed_process_is_resumed(tmp_path, regression_run, number):
    volume = np.random.default_rng(0).random((400, 64, 64), np.float32)
    np.save(tmp_path / "v.npy", volume)
    command = ["predict", regression_run, tmp_path / "v.npy", "-o", tmp_path / "out", "--json"]
    process = Program(*command, output=tmp_path / "said")
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("out/.v.npy.*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, number)
    code = process.wait(600)
    if number == signal.SIGTERM and code != 0:
        assert code == 75
        assert "stopped at file 1 of 1" in (tmp_path / "said").read_text()
    again = Program(*command, output=tmp_path / "said again")
    if again.wait(600) != 0:
        assert code == 0, (tmp_path / "said again").read_text()
    predictor = Predictor.load(regression_run, "cpu")
    expected = [predictor(torch.from_numpy(image[None]))[0].numpy() for image in volume]
    np.testing.assert_allclose(np.load(tmp_path / "out" / "v.npy"), expected, rtol=1e-5, atol=1e-5)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["v.npy"]

"""Averages over several networks, and the spread of what is averaged."""

import itertools

import numpy as np
import pytest
import tifffile
import torch

from msdtool.errors import ConfigError
from msdtool.predict import Inputs, Predictor, plan_jobs, predict
from msdtool.predict.encoding import Encoding
from msdtool.predict.regions import Region
from tests.predict.test_series import make_series_predictor
from tests.predict.test_strips import make_model


def several(**options):
    """A model, and two others of other depths."""
    first = make_model(**options)
    return first, {f"other {depth}": make_model(**options, depth=depth) for depth in (2, 9)}


def by_hand(models, image, *, tta, labels):
    """The outputs of each network, for each symmetry of the square if wanted."""
    found = []
    for model, turns, mirrored in itertools.product(
        models, range(4 if tta else 1), (False, True) if tta else (False,)
    ):
        turned = torch.rot90(image, turns, (1, 2))
        output = Predictor(model, "cpu")(turned.flip(2) if mirrored else turned)
        output = output.softmax(0) if labels else output
        found.append(torch.rot90(output.flip(2) if mirrored else output, -turns, (1, 2)))
    return torch.stack(found).double()


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("labels", [(), (0, 7, 255)])
def test_results_are_means_and_spreads_standard_deviations(labels, tta):
    first, others = several(labels=labels)
    image = torch.rand(1, 20, 31)
    outputs = by_hand([first, *others.values()], image, tta=tta, labels=labels)
    predictor = Predictor(first, "cpu", ensemble=others, tta=tta, spread=True)
    mean, spread = predictor(image).chunk(2)
    mean = mean.softmax(0) if labels else mean
    torch.testing.assert_close(mean.double(), outputs.mean(0), rtol=1e-5, atol=1e-6)
    expected = outputs.std(0, correction=0)
    torch.testing.assert_close(spread.double(), expected, rtol=1e-4, atol=1e-6)
    alone = Predictor(first, "cpu", ensemble=others, tta=tta)(image)
    assert torch.equal(alone, predictor(image)[: len(alone)])


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "in" / "volume.tif"
    path.parent.mkdir()
    values = np.random.default_rng(0).random((3, 24, 31), np.float32)
    tifffile.imwrite(path, values, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


def write(predictor, source, folder, stop=lambda: False, **options):
    jobs = plan_jobs(str(source), folder, spread=True, **options)
    inputs = Inputs(predictor, [str(source)], options.get("region"))
    list(predict(predictor, jobs, inputs, stop=stop))
    return jobs[0]


def test_a_spread_is_written_beside_its_result_in_full_precision(volume, tmp_path):
    first, others = several()
    predictor = Predictor(first, "cpu", ensemble=others, spread=True)
    encoding = Encoding("uint8", (-4.0, 4.0))
    job = write(predictor, volume, tmp_path / "out", encoding=encoding)
    assert job.spread == tmp_path / "out" / "volume_spread.tif"
    found = tifffile.imread(job.spread)
    expected = [predictor(torch.from_numpy(image)[None])[1] for image in tifffile.imread(volume)]
    np.testing.assert_array_equal(found, torch.stack(expected).numpy())
    assert (found.dtype, tifffile.imread(job.output).dtype) == (np.float32, np.uint8)


@pytest.mark.parametrize("format", ["tif", "zarr"])
def test_a_result_with_a_spread_that_was_stopped_resumes(volume, tmp_path, format):
    first, others = several()
    predictor = Predictor(first, "cpu", ensemble=others, spread=True)
    whole = write(predictor, volume, tmp_path / "whole", format=format)
    asked = iter([False, True])
    parts = write(predictor, volume, tmp_path / "parts", lambda: next(asked), format=format)
    assert not parts.is_done()
    write(predictor, volume, tmp_path / "parts", format=format)
    assert parts.is_done()
    for path, other in zip(parts.outputs, whole.outputs, strict=True):
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        assert files
        for file in files:
            twin = other / file.relative_to(path) if path.is_dir() else other
            assert file.name.startswith(".") or file.read_bytes() == twin.read_bytes()


def test_a_region_is_as_large_as_the_deepest_network_needs(volume, tmp_path):
    first, others = several()
    predictor = Predictor(first, "cpu", ensemble=others, spread=True)
    whole = write(predictor, volume, tmp_path / "whole")
    part = write(predictor, volume, tmp_path / "part", region=Region.parse("5:9,10:20"))
    for path, other in zip(part.outputs, whole.outputs, strict=True):
        expected = tifffile.imread(other)[:, 5:9, 10:20]
        np.testing.assert_allclose(tifffile.imread(path), expected, rtol=1e-4, atol=1e-6)


def test_a_spread_needs_an_average(volume):
    with pytest.raises(ConfigError, match="spread: the result is no average; average over several"):
        Inputs(Predictor(make_model(), "cpu", spread=True), [str(volume)])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"c_out": 2}, "other has c_out 2, model has 1; name networks of the same inputs"),
        ({"ndim": 3}, "other has ndim 3, model has 2"),
        ({"labels": (0, 1)}, "other has task 'segmentation', model has 'regression'"),
    ],
)
def test_networks_for_other_images_are_refused(other, message):
    with pytest.raises(ConfigError, match=message):
        Predictor(make_model(), "cpu", ensemble={"other": make_model(**other)})


def test_series_and_the_same_network_twice_are_refused(regression_run):
    _, predictor = make_series_predictor(0, 2)
    series = predictor.model
    with pytest.raises(ConfigError, match="ensemble: series works on image sequences"):
        Predictor(series, "cpu", "series", ensemble={"b": series})
    with pytest.raises(ConfigError, match="ensemble: names a network twice"):
        Predictor.load(regression_run, "cpu", [regression_run])

"""A trained network on arrays."""

import numpy as np
import pytest
import tifffile
import torch

import msdtool
from msdtool.errors import InputError
from msdtool.predict import Predictor, plan_jobs, predict
from tests.helpers import LABELS

RNG = np.random.default_rng(4)


@pytest.fixture
def volume():
    return RNG.normal(10, 2, (3, 12, 13)).astype(np.float32)


def from_file(run, volume, folder, **options):
    """What `msdtool predict` writes for a file of these slices."""
    tifffile.imwrite(folder / "v.tif", volume, photometric="minisblack")
    jobs = plan_jobs(folder / "v.tif", folder / "out", **options)
    (done,) = predict(Predictor.load(run, "cpu"), jobs)
    return [tifffile.imread(path) for path in done.job.outputs]


def test_slices_of_an_array_are_those_of_a_file(regression_run, volume, tmp_path):
    network = msdtool.load(regression_run, "cpu")
    (expected,) = from_file(regression_run, volume, tmp_path)
    assert np.array_equal(network.predict(volume), expected)
    assert np.array_equal(network.predict(volume[1]), expected[1])
    assert (network.labels, network.ndim, network.channels) == ([], 2, 1)


def test_axes_say_what_is_what_and_progress_is_told(regression_run, volume):
    network = msdtool.load(regression_run, "cpu")
    seen = []
    found = network.predict(
        volume.transpose(2, 0, 1)[:, None], "XCTY", progress=lambda *done: seen.append(done)
    )
    assert np.array_equal(found, network.predict(volume))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64, bool])
def test_arrays_may_have_any_real_type(regression_run, volume, dtype):
    network = msdtool.load(regression_run, "cpu")
    values = volume.astype(dtype)
    found = network.predict(values)
    assert found.dtype == np.float32
    assert np.array_equal(found, network.predict(values.astype(np.float32)))


def test_tensors_make_tensors(regression_run, volume):
    network = msdtool.load(regression_run, "cpu")
    found = network.predict(torch.from_numpy(volume).requires_grad_())
    assert isinstance(found, torch.Tensor) and not found.requires_grad
    assert np.array_equal(found.numpy(), network.predict(volume))


def test_labels_and_probabilities(segmentation_run, volume, tmp_path):
    network = msdtool.load(segmentation_run, "cpu")
    labels, shares = from_file(segmentation_run, volume, tmp_path, probabilities=True)
    found = network.predict(volume)
    assert network.labels == LABELS
    assert found.dtype == labels.dtype and np.array_equal(found, labels)
    np.testing.assert_array_equal(network.predict(volume, probabilities=True), shares)


def test_large_images_are_computed_in_strips(regression_run):
    image = RNG.normal(10, 2, (1200, 700)).astype(np.float32)
    network = msdtool.load(regression_run, "cpu")
    whole = network.predict(image)
    network._predictor.fits = lambda _space: False
    np.testing.assert_allclose(network.predict(image), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "axes", "message"),
    [
        (np.ones((2, 3, 12, 13)), "ZCYX", "the image has 3 channels, the model was trained on "),
        (np.full((12, 13), np.nan), None, "array: 156 of 156 values are NaN or infinite"),
        (np.ones((12, 13)), "ZYX", "array: axes: ZYX names 3 axes, the array has 2"),
        (np.ones((12, 13), complex), None, "array: values of type complex128 are not real"),
        (np.ones((0, 13)), None, "array: the image has no pixels"),
    ],
)
def test_what_is_no_image_of_the_network_is_refused(regression_run, array, axes, message):
    network = msdtool.load(regression_run, "cpu")
    with pytest.raises(InputError) as error:
        network.predict(array, axes)
    assert message in error.value.message


def test_a_regression_has_no_probabilities(regression_run, volume):
    with pytest.raises(InputError, match="the network is for regression and has none"):
        msdtool.load(regression_run, "cpu").predict(volume, probabilities=True)


RUNS = ("slab", "series")


@pytest.mark.parametrize("kind", RUNS)
def test_slabs_and_series_are_those_of_a_file(tmp_path, kind):
    run = f"tests/golden/runs/{kind}/run"
    volume = RNG.normal(10, 2, (7, 20, 21)).astype(np.float32)
    (expected,) = from_file(run, volume, tmp_path)
    np.testing.assert_allclose(
        msdtool.load(run, "cpu").predict(volume), expected, rtol=1e-5, atol=1e-6
    )

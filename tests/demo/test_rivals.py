import numpy as np
import pytest
import tifffile

pytest.importorskip("skimage")
from skimage.metrics import peak_signal_noise_ratio

from msdtool.demo import rivals
from msdtool.demo.tomograms import disc

SIDE = 40


@pytest.fixture
def folder(tmp_path):
    """Images of a square in noise, and predictions that are off by 0.1 everywhere."""
    rng = np.random.default_rng(0)
    clean = np.zeros((SIDE, SIDE), np.float32)
    clean[10:30, 12:28] = 1
    noisy = (clean + rng.normal(0, 0.3, clean.shape)).astype(np.float32)
    for part in ("validation", "test"):
        for kind, image in (("noisy", noisy), ("clean", clean)):
            (tmp_path / part / kind).mkdir(parents=True)
            tifffile.imwrite(tmp_path / part / kind / "a.tif", image)
    (tmp_path / "predictions").mkdir()
    tifffile.imwrite(tmp_path / "predictions/a.tif", clean + np.float32(0.1))
    return tmp_path


def test_methods_are_compared_inside_the_disc(folder):
    images = rivals.tomograms(folder)._replace(shown="a.tif")
    found = rivals.compare(images, folder / "a.png")
    assert (folder / "a.png").exists()
    assert list(found) == ["scan", "total variation", "non-local means", "MSD network"]
    assert found["MSD network"] == pytest.approx(20.0, abs=1e-4)
    scan, truth = (
        tifffile.imread(folder / "test" / kind / "a.tif")[disc(SIDE)] for kind in ("noisy", "clean")
    )
    expected = peak_signal_noise_ratio(truth, scan, data_range=1)
    assert found["scan"] == pytest.approx(expected, abs=1e-4)
    assert found["total variation"] > found["scan"] + 3


def test_the_strength_is_the_best_one_on_the_validation_images(folder):
    def method(image, strength):
        return image * 0 + tifffile.imread(folder / "validation/clean/a.tif") + abs(strength - 0.3)

    assert rivals._tuned(method, (0.1, 0.25, 0.6), rivals.tomograms(folder)) == 0.25


def test_slices_of_foam_are_those_of_the_mean_of_the_splits(tmp_path):
    volumes = np.arange(5 * 20 * 5 * 5, dtype=np.float32).reshape(5, 20, 5, 5)
    for k, split in enumerate(volumes[:4]):
        tifffile.imwrite(tmp_path / f"split_{k + 1}.tif", split)
    for name in ("clean", "cleaned"):
        tifffile.imwrite(tmp_path / f"{name}.tif", volumes[4])
    images = rivals.foam(tmp_path)
    assert list(images.scans) == ["2", "6", "10", "18"]
    assert np.array_equal(images.scans["6"], (volumes[0, 6] + volumes[3, 6]) / 2)
    assert np.array_equal(images.predictions["18"], volumes[4, 18])
    assert list(images.tuning_truth) == ["14", "15", "16", "17"]

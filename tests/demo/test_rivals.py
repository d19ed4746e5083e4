import numpy as np
import pytest
import tifffile

pytest.importorskip("skimage")
from skimage.metrics import peak_signal_noise_ratio

from msdtool.demo import rivals
from msdtool.demo.tomograms import disc

SIDE = 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
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
    monkeypatch.setattr(rivals, "SHOWN", "a.tif")
    return tmp_path


def test_methods_are_compared_inside_the_disc(folder):
    found = rivals.compare(folder, folder / "a.png")
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

    assert rivals._tuned(method, (0.1, 0.25, 0.6), folder) == 0.25

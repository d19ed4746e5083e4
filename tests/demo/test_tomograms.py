import numpy as np
import pytest
import tifffile

from msdtool.config import load_config
from msdtool.data.build import build_datasets

pytest.importorskip("skimage")
from msdtool.demo import tomograms


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tomograms, "IMAGES", {"train": ("camera",), "validation": ("coins",), "test": ("moon",)}
    )
    monkeypatch.setattr(tomograms, "WINDOWS", {"train": 2, "validation": 1, "test": 1})
    monkeypatch.setattr(tomograms, "SIZE", 64)
    return tomograms.write_tomograms(tmp_path)


def test_the_data_set_is_complete_and_its_config_loads(data_set):
    config = load_config(data_set)
    train, validation = build_datasets(config)
    assert (len(train), len(validation)) == (2, 1)
    assert config.run.directory == str(data_set.parent / "run")


def test_a_tomogram_is_its_image_and_noise(data_set):
    noisy = tifffile.imread(data_set.parent / "train/noisy/camera_1.tif")
    clean = tifffile.imread(data_set.parent / "train/clean/camera_1.tif")
    assert noisy.shape == clean.shape == (64, 64)
    assert clean.min() == 0 and clean.max() <= 1
    error = np.sqrt(np.mean((noisy - clean) ** 2))
    assert 0.01 < error < 0.4
    assert np.corrcoef(noisy.ravel(), clean.ravel())[0, 1] > 0.7
    outside = ~tomograms.disc(64)
    assert not noisy[outside].any() and not clean[outside].any()


def test_more_photons_mean_less_noise(monkeypatch):
    image = np.zeros((64, 64), np.float32)
    image[20:40, 20:40] = 1
    errors = []
    monkeypatch.setattr(tomograms, "VIEWS", 100)
    for photons in (200, 1_000_000):
        monkeypatch.setattr(tomograms, "PHOTONS", photons)
        scan = tomograms._scan(image, np.random.default_rng(0))
        errors.append(np.sqrt(np.mean((scan - image) ** 2)))
    assert errors[1] < errors[0] / 2


def test_it_is_the_same_every_time(data_set, tmp_path):
    first = (data_set.parent / "test/noisy/moon_1.tif").read_bytes()
    tomograms.write_tomograms(tmp_path / "again")
    assert first == (tmp_path / "again/test/noisy/moon_1.tif").read_bytes()

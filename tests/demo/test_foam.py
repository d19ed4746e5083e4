import numpy as np
import pytest
import tifffile

from msdtool.config import load_config
from msdtool.data.build import build_datasets

pytest.importorskip("skimage")
from msdtool.demo import foam


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small scan: its clean volume and its splits."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SIZE": 64, "NUM_SLICES": 20, "NUM_BUBBLES": 20, "VIEWS": 64}.items():
            patch.setattr(foam, name, value)
        patch.setattr(foam, "RADIUS", (3.0, 8.0))
        folder = tmp_path_factory.mktemp("foam")
        config = foam.write_foam(folder)
    splits = [tifffile.imread(folder / f"split_{k}.tif") for k in (1, 2, 3, 4)]
    return config, tifffile.imread(folder / "clean.tif"), np.stack(splits)


def test_its_config_finds_the_splits(scan):
    config = load_config(scan[0])
    train, validation = build_datasets(config)
    assert (len(train), len(validation)) == (16 * 4, 4 * 4)
    assert config.training.patience is None


def test_bubbles_do_not_overlap_and_lie_inside(monkeypatch):
    monkeypatch.setattr(foam, "NUM_BUBBLES", 60)
    bubbles = foam._bubbles(np.random.default_rng(0))
    centres, radii = bubbles[:, :3], bubbles[:, 3]
    assert len(bubbles) > 30
    distances = np.linalg.norm(centres[:, np.newaxis] - centres, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances > radii[:, np.newaxis] + radii).all()
    assert (np.hypot(centres[:, 1], centres[:, 2]) + radii < foam.SIZE / 2).all()


def test_a_slice_of_a_bubble_is_a_disc(monkeypatch):
    monkeypatch.setattr(foam, "SIZE", 64)
    image = foam._slice(np.array([[3.0, 0.0, 0.0, 10.0]]), z=9.0)
    # At 6 pixels from its centre a sphere of radius 10 is a disc of radius 8.
    cylinder = np.pi * (0.46 * 64) ** 2
    assert image.sum() == pytest.approx(cylinder - np.pi * 8**2, rel=0.01)
    assert image[32, 32] == 0 and image[32, 45] == 1 and image[0, 0] == 0


def test_splits_show_the_same_object_with_independent_noise(scan):
    _, clean, splits = scan
    noise = splits - clean
    inside = clean == 1
    correlations = np.corrcoef(noise[:, inside])[np.triu_indices(4, 1)]
    # What reconstruction from few views does to the object is common to all; noise is most of it.
    assert np.abs(correlations).max() < 0.3
    assert noise[0][inside].std() > 0.2
    mean = splits.mean(axis=0) - clean
    assert mean[inside].std() == pytest.approx(noise[0][inside].std() / 2, rel=0.35)

import numpy as np
import tifffile

from msdtool.config import load_config
from msdtool.data.build import build_datasets
from msdtool.demo import shapes


def test_labels_are_the_five_and_most_of_the_image_is_background():
    labels = shapes.draw_labels(np.random.default_rng(3))
    assert labels.shape == (shapes.SIZE, shapes.SIZE)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    assert 0.4 < (labels == 0).mean() < 0.95


def test_frames_and_rings_are_hollow(monkeypatch):
    monkeypatch.setattr(shapes, "NUM_SHAPES", 1)
    hollow = {1: [], 2: [], 3: [], 4: []}
    for seed in range(60):
        labels = shapes.draw_labels(np.random.default_rng(seed))
        kind = int(labels.max())
        rows, columns = np.nonzero(labels)
        inside = rows.min() > 0 and columns.min() > 0 and max(rows.max(), columns.max()) < 255
        if inside:
            middle = labels[(rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2]
            hollow[kind].append(middle == 0)
    assert all(hollow.values())
    assert [all(found) for found in hollow.values()] == [False, True, False, True]
    assert not any(hollow[1] + hollow[3])


def test_the_data_set_is_complete_and_its_config_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "PARTS", {"train": 2, "validation": 1, "test": 1})
    counts = []
    config = shapes.write_shapes(
        tmp_path, lambda done, total, note="": counts.append((done, total))
    )
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]
    train, validation = build_datasets(load_config(config))
    assert (len(train), len(validation)) == (2, 1)
    noisy = tifffile.imread(tmp_path / "train/noisy/shapes_000.tif")
    labels = tifffile.imread(tmp_path / "train/labels/shapes_000.tif")
    noise = noisy - (labels > 0)
    assert noise.dtype == np.float32 and labels.dtype == np.uint8
    assert abs(noise.std() - shapes.NOISE) < 0.02 and abs(noise.mean()) < 0.02

"""The comparison with other networks, on small images and with stand-ins for the networks."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

pytest.importorskip("skimage")
from skimage.metrics import peak_signal_noise_ratio

from msdtool.demo.tomograms import disc

SIDE = 24
CONFIG = """\
task: {task}
data: {{train: {{input: test/noisy, target: test/{truth}}}{labels}}}
"""


def write(folder, labels=0):
    """Three images of a bright half in noise, which serve to train, tune and test."""
    truth = "labels" if labels else "clean"
    rng = np.random.default_rng(0)
    clean = np.zeros((SIDE, SIDE), np.uint8 if labels else np.float32)
    clean[:, SIDE // 2 :] = 1
    for part in ("test", "validation"):
        for kind in ("noisy", truth):
            (folder / part / kind).mkdir(parents=True)
        for name in ("a.tif", "b.tif", "c.tif"):
            noisy = clean + rng.normal(0, 0.3, clean.shape)
            tifffile.imwrite(folder / part / "noisy" / name, noisy.astype(np.float32))
            tifffile.imwrite(folder / part / truth / name, clean)
    task, more = ("segmentation", f", labels: {labels}") if labels else ("regression", "")
    path = folder / "small.yaml"
    path.write_text(CONFIG.format(task=task, truth=truth, labels=more))
    return path


@pytest.fixture
def quality(monkeypatch):
    path = Path(__file__).parents[2] / "docs" / "quality.py"
    spec = importlib.util.spec_from_file_location("quality", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "quality", module)  # where dataclasses look their names up
    spec.loader.exec_module(module)
    tasks = {
        "shapes": module.Task(lambda folder: write(folder, 2), labels=2),
        "tomograms": module.Task(write),
    }
    monkeypatch.setattr(module, "TASKS", tasks)
    monkeypatch.setattr(module, "NETWORKS", (module.MSDTOOL, "U-Net, 2 million"))
    monkeypatch.setattr(
        module, "other_network", lambda name, ndim, c_out: torch.nn.Conv2d(1, c_out, 1)
    )
    return module


def test_networks_have_equal_time_then_equal_updates_and_the_better_rate(quality, tmp_path):
    comparison = quality.Comparison(tmp_path, 0.05)
    other = comparison.of_time("tomograms", "U-Net, 2 million", 0)
    first, second, third = comparison.rows
    assert third == other
    assert [row["task"] for row in comparison.rows] == ["shapes", "shapes", "tomograms"]
    assert (first["rate"], second["rate"]) == quality.RATES
    assert other["rate"] == max(first, second, key=lambda row: row["validation"])["rate"]
    assert other["parameters"] == 2
    assert other["seconds"] >= 0.05
    rows = [comparison.of_updates("tomograms", name, 0) for name in quality.NETWORKS]
    assert len({row["updates"] for row in rows}) == 1
    assert rows[0]["rate"] == 1e-2
    assert comparison.rate("shapes", quality.MSDTOOL) == 1.5e-2


def test_what_is_known_is_not_trained_again(quality, tmp_path, monkeypatch):
    trained = [
        quality.Comparison(tmp_path, 0.05).of_time(task, quality.MSDTOOL, 1)
        for task in quality.TASKS
    ]
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == trained
    monkeypatch.setattr(quality, "train", None)
    again = quality.Comparison(tmp_path, 0.05)
    assert again.of_time("tomograms", quality.MSDTOOL, 1) == trained[1]


def test_scores_are_those_of_the_formulas(quality, tmp_path):
    write(tmp_path / "clean")
    found = quality.score("tomograms", tmp_path / "clean", "test", torch.nn.Identity())
    truth = tifffile.imread(tmp_path / "clean/test/clean/a.tif")
    expected = [
        peak_signal_noise_ratio(truth[disc(SIDE)], tifffile.imread(path)[disc(SIDE)], data_range=1)
        for path in (tmp_path / "clean/test/noisy").iterdir()
    ]
    assert found == pytest.approx(np.mean(expected), abs=1e-3)

    write(tmp_path / "labels", 2)

    def left_three_quarters(input):
        """Labels the first 18 of 24 columns 0, of which 12 are."""
        scores = torch.zeros(1, 2, SIDE, SIDE)
        scores[:, 0, :, : 3 * SIDE // 4] = 1
        scores[:, 1, :, 3 * SIDE // 4 :] = 1
        return scores

    found = quality.score("shapes", tmp_path / "labels", "test", left_three_quarters)
    assert found == pytest.approx((12 / 18 + 6 / 12) / 2)


def test_methods_that_learn_nothing_have_the_strength_that_validation_prefers(quality, tmp_path):
    comparison = quality.Comparison(tmp_path, 0.05)
    best = quality.STRENGTHS[2]
    truth = write(tmp_path / "tomograms").parent / "test" / "clean" / "a.tif"

    def method(image, strength):
        return tifffile.imread(truth) + (strength - best) + 0.01

    comparison.classical("tomograms", "BM3D", method)
    (row,) = comparison.rows
    assert row["strength"] == best
    assert row["test"] == pytest.approx(40, abs=1e-3)  # an error of 0.01 everywhere
    comparison.classical("tomograms", "BM3D", None)
    assert len(comparison.rows) == 1


def test_the_table_has_mean_and_spread_of_the_seeds(quality, tmp_path):
    rows = [
        {"task": task, "network": name, "seed": seed, "rate": rate, "budget": budget}
        | {"updates": 100, "validation": rate, "test": value + seed}
        for task, value in (("shapes", 0.5), ("tomograms", 20))
        for name in quality.NETWORKS
        for seed in range(2)
        for rate in (*quality.RATES, 1.5e-2)
        for budget in ("30 s", "100 updates")
    ]
    rows += [
        {"task": task, "network": name, "test": 19.0}
        for task in ("tomograms", "foam")
        for name in quality.METHODS
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = quality.table(quality.Comparison(tmp_path, 30), 2)
    assert found.count(f"| {quality.MSDTOOL} | 1.000 ± 0.707 (100) | 20.50 ± 0.71 dB (100) |") == 2
    assert "| BM3D | 19.00 dB | 19.00 dB |" in found

import pytest
import torch

from msdtool.data import ImageDataset
from msdtool.measure.comparisons import Comparison
from msdtool.nn.build import build_network
from msdtool.runs.checkpoint import load_checkpoint
from msdtool.runs.rundir import RunDirectory
from msdtool.train import pictures
from msdtool.train.events import Validation
from tests.helpers import write_noisy_pairs


@pytest.fixture
def drawn(monkeypatch):
    """The pictures that would be drawn: name of the file to its comparison."""
    found = {}
    monkeypatch.setattr(
        pictures, "save_comparisons", lambda path, rows, _: found.update({path.name: rows[0]})
    )
    monkeypatch.setattr(pictures, "save_curves", lambda path, runs: found.update({path.name: runs}))
    return found


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pictures.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def pairs(tmp_path):
    specs = write_noisy_pairs(tmp_path, 5)
    return ImageDataset(specs["input"], specs["target"])


def run_pictures(run):
    best = load_checkpoint(run / "checkpoints" / "best.pt")
    network = build_network(best.model.architecture)
    return pictures.RunPictures(RunDirectory(run), network, (), 12.0)


def test_best_typical_and_worst_are_chosen_by_loss(regression_run, pairs, drawn):
    it = run_pictures(regression_run)
    it.choose(Validation(0, {}, [0.3, 0.1, 0.5, 0.2, 0.4]))
    it.update(pairs)
    titles = {name: row.title for name, row in drawn.items() if isinstance(row, Comparison)}
    assert titles == {
        "best.png": "best of 5, image_001.tif",
        "typical.png": "typical of 5, image_000.tif",
        "worst.png": "worst of 5, image_002.tif",
    }
    assert "PSNR" in drawn["best.png"].input_note and "SSIM" in drawn["best.png"].output_note


def test_of_one_image_nothing_is_best(regression_run, drawn, tmp_path):
    specs = write_noisy_pairs(tmp_path, 1)
    it = run_pictures(regression_run)
    it.choose(Validation(0, {}, [0.3]))
    it.update(ImageDataset(specs["input"], specs["target"]))
    (name,) = [name for name, row in drawn.items() if isinstance(row, Comparison)]
    assert (name, drawn[name].title) == ("typical.png", "the only image, image_000.tif")


def test_curves_are_drawn_of_the_epochs(regression_run, drawn):
    run_pictures(regression_run).finish(None)
    ((rows),) = drawn["curves.png"].values()
    assert [row["epoch"] for row in rows] == [1, 2]


def test_drawing_waits_until_it_is_a_small_share_of_the_time(regression_run, pairs, drawn, clock):
    it = run_pictures(regression_run)
    it.choose(Validation(0, {}, [0.0] * 5))
    it.update(pairs)
    assert drawn.pop("best.png")
    it.spent, clock[0] = 5.0, 99.0
    it.update(pairs)
    assert "best.png" not in drawn
    clock[0] = 101.0
    it.update(pairs)
    assert "best.png" in drawn


def test_the_end_shows_the_best_network(regression_run, pairs, drawn, clock):
    it = run_pictures(regression_run)
    it.spent = 99.0
    it.choose(Validation(0, {}, [0.0] * 5))
    it.update(pairs)
    assert not drawn
    it.finish(pairs)
    best = load_checkpoint(regression_run / "checkpoints" / "best.pt").model.state
    for name, tensor in it.network.state_dict().items():
        assert torch.equal(tensor, best[name])
    expected = it.network(pairs[0][0][None])[0].detach()
    assert torch.equal(torch.from_numpy(drawn["best.png"].output), expected)

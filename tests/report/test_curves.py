import pytest
from matplotlib.axes import Axes

from msdtool.report.curves import save_curves
from tests.helpers import PNG_START

ROWS = [
    {"epoch": 1, "train_loss": 3.0, "validation_loss": None},
    {"epoch": 2, "train_loss": 2.0, "validation_loss": 2.5, "psnr": 20.0, "ssim": None},
    {"epoch": 3, "train_loss": 1.0, "validation_loss": 1.5, "psnr": 21.0, "ssim": None},
]


@pytest.fixture
def plots(monkeypatch):
    """What is plotted: label to points."""
    found = {}
    plot = Axes.plot

    def note(self, x, y, **options):
        found[options["label"]] = list(zip(x, y, strict=True))
        return plot(self, x, y, **options)

    monkeypatch.setattr(Axes, "plot", note)
    return found


def test_curves_are_the_rows_without_what_was_not_measured(tmp_path, plots):
    save_curves(tmp_path / "new" / "curves.png", {"run": ROWS})
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(PNG_START)
    assert plots == {
        "training": [(1, 3.0), (2, 2.0), (3, 1.0)],
        "validation": [(2, 2.5), (3, 1.5)],
        "run": [(2, 20.0), (3, 21.0)],  # psnr
    }


def test_doing_nothing_and_how_training_went_are_drawn_beside_the_metrics(tmp_path, plots):
    beside = {"baseline_psnr": 18.0, "gradient_norm": 0.5, "memory_bytes": 3 * 2**30}
    save_curves(tmp_path / "curves.png", {"run": [{**ROWS[1], **beside}]})
    assert plots["doing nothing"] == [(2, 18.0)]
    assert plots["run"] == [(2, 3.0)]  # the last panel: memory in GiB


def test_runs_are_told_apart_by_name(tmp_path, plots):
    save_curves(tmp_path / "curves.png", {"a": ROWS[:1], "b": ROWS})
    assert set(plots) == {"a, training", "b, training", "b, validation", "b"}


def test_the_iou_of_each_label_of_a_single_run_is_drawn(tmp_path, plots):
    rows = [{**ROWS[0], "iou": {"0": 0.5, "255": None}}, {**ROWS[1], "iou": {"0": 0.6, "255": 0.1}}]
    save_curves(tmp_path / "curves.png", {"run": rows})
    assert (plots["0"], plots["255"]) == ([(1, 0.5), (2, 0.6)], [(2, 0.1)])


def test_the_best_epoch_is_marked_in_every_panel(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr(Axes, "axvline", lambda self, x, **_: marks.append((self.get_ylabel(), x)))
    save_curves(tmp_path / "curves.png", {"run": [*ROWS, {**ROWS[1], "epoch": 4}]})
    assert marks == [("loss", 3), ("PSNR (dB)", 3)]


@pytest.mark.parametrize("loss", [0.0, -0.5])
def test_a_loss_that_is_not_positive_can_be_drawn(tmp_path, loss):
    row = {**ROWS[0], "train_loss": loss, "gradient_norm": loss}
    save_curves(tmp_path / "curves.png", {"run": [row]})

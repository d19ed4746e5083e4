import pytest
from matplotlib.axes import Axes

from msdtool.report import curves
from msdtool.report.curves import save_curves
from tests.helpers import PNG_START

ROWS = [
    {"epoch": 1, "train_loss": 3.0, "validation_loss": None},
    {"epoch": 2, "train_loss": 2.0, "validation_loss": 2.5, "psnr": 20.0, "ssim": None},
    {"epoch": 3, "train_loss": 1.0, "validation_loss": 1.5, "psnr": 21.0, "ssim": None},
]


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Draw runs; returns the figure."""
    figures = []
    monkeypatch.setattr(curves, "save_figure", lambda _path, figure: figures.append(figure))

    def run(runs):
        save_curves(tmp_path / "curves.png", runs)
        return figures.pop()

    return run


def plotted(figure):
    """By panel: line style and colour to the points."""
    return {
        axis.get_ylabel(): {
            (line.get_linestyle(), line.get_color()): [
                tuple(map(float, point)) for point in line.get_xydata()
            ]
            for line in axis.get_lines()
            if line.get_linestyle() != "-."  # the best epoch
        }
        for axis in figure.axes
    }


def words(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_curves_are_the_rows_without_what_was_not_measured(draw):
    assert plotted(draw({"run": ROWS})) == {
        "loss": {(":", "C0"): [(1, 3), (2, 2), (3, 1)], ("-", "C0"): [(2, 2.5), (3, 1.5)]},
        "PSNR (dB)": {("-", "C0"): [(2, 20), (3, 21)]},
    }


def test_curves_are_a_png(tmp_path):
    save_curves(tmp_path / "new" / "curves.png", {"run": ROWS})
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(PNG_START)


def test_doing_nothing_and_how_training_went_are_drawn_beside_the_metrics(draw):
    beside = {"baseline_psnr": 18.0, "gradient_norm": 0.5, "memory_bytes": 3 * 2**30}
    figure = draw({"run": [{**ROWS[1], **beside}]})
    assert plotted(figure)["PSNR (dB)"]["--", "C0"] == [(2, 18)]
    assert plotted(figure)["peak memory (GiB)"] == {("-", "C0"): [(2, 3)]}
    assert "doing nothing" in words(figure.legends[0])


def test_runs_are_told_apart_by_colour(draw):
    figure = draw({"a": ROWS[:1], "b": ROWS})
    assert set(plotted(figure)["loss"]) == {(":", "C0"), (":", "C1"), ("-", "C1")}
    assert words(figure.legends[0]) == ["a", "b", "training", "validation", "best epoch"]


@pytest.mark.parametrize("runs", [{"run": 1}, {"a" * 200: 1, "b": 1, "c": 1}])
def test_legends_hide_no_curve(draw, runs):
    rows = [{**row, "iou": {str(n): n / 20 for n in range(15)}} for row in ROWS]
    figure = draw(dict.fromkeys(runs, rows))
    figure.draw_without_rendering()
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    assert len(legends) == (2 if len(runs) == 1 else 1)
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes)


def test_the_iou_of_each_label_of_a_single_run_is_drawn(draw):
    rows = [{**ROWS[0], "iou": {"0": 0.5, "255": None}}, {**ROWS[1], "iou": {"0": 0.6, "255": 0.1}}]
    figure = draw({"run": rows})
    assert plotted(figure)["IoU of each label"] == {
        ("-", "C0"): [(1, 0.5), (2, 0.6)],
        ("-", "C1"): [(2, 0.1)],
    }
    assert words(figure.axes[-1].get_legend()) == ["0", "255"]


def test_the_best_epoch_is_the_last_that_improved(draw):
    rows = [{**row, "improved": row["epoch"] == 2, "frc": 0.1} for row in ROWS]
    panel = draw({"run": rows}).axes[0]
    marks = [line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == "-."]
    assert marks == [2]


def test_the_best_epoch_is_marked_in_every_panel(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr(Axes, "axvline", lambda self, x, **_: marks.append((self.get_ylabel(), x)))
    save_curves(tmp_path / "curves.png", {"run": [*ROWS, {**ROWS[1], "epoch": 4}]})
    assert marks == [("loss", 3), ("PSNR (dB)", 3)]


@pytest.mark.parametrize("loss", [0.0, -0.5])
def test_a_loss_that_is_not_positive_can_be_drawn(tmp_path, loss):
    row = {**ROWS[0], "train_loss": loss, "gradient_norm": loss}
    save_curves(tmp_path / "curves.png", {"run": [row]})

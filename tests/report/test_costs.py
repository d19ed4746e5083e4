import pytest
from PIL import Image

from msdtool.report import costs


def row(method="msdtool", space=(64, 64), depth=30, width=1, seconds=1.0):
    pixels = 1
    for size in space:
        pixels *= size
    return {
        "method": method,
        "space": space,
        "ndim": len(space),
        "pixels": pixels,
        "depth": depth,
        "width": width,
        "step_seconds": seconds,
    }


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Draw rows and return the labels below each of the two axes."""

    def run(rows):
        figures = []
        monkeypatch.setattr(costs, "save_figure", lambda path, figure: figures.append(figure))
        costs.save_costs(tmp_path / "costs.png", rows)
        return [
            [text.get_text() for text in axes.get_legend().get_texts()] if axes.lines else []
            for axes in figures[0].axes
        ]

    return run


def test_the_legend_names_the_power_of_the_pixels(draw):
    rows = [row(space=(size, size), seconds=3e-7 * size**2) for size in (64, 128, 512)]
    assert draw(rows)[0] == ["msdtool, 2D, depth 30, width 1: slope 1.00"]


def test_the_legend_names_the_power_of_the_depth(draw):
    rows = [row(depth=depth, seconds=2e-3 * depth**2) for depth in (100, 10, 30)]
    assert draw(rows)[1] == ["msdtool, 64², width 1: slope 2.00"]


def test_a_single_point_has_no_slope(draw):
    assert draw([row()]) == [
        ["msdtool, 2D, depth 30, width 1"],
        ["msdtool, 64², width 1"],
    ]


def test_methods_sizes_and_dimensions_have_lines_of_their_own(draw):
    rows = [
        row(),
        row(method="torch.cat + conv"),
        row(space=(16, 16, 16)),  # as many pixels as the images
        row(width=4),
    ]
    over_pixels, over_depth = draw(rows)
    assert len(over_pixels) == len(over_depth) == 4


def test_sizes_stand_below_the_pixels(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(costs, "save_figure", lambda path, figure: figures.append(figure))
    spaces = [(64, 64), (16, 16, 16), (32, 128), (128, 128)]
    costs.save_costs(tmp_path / "costs.png", [row(space=space) for space in spaces])
    labels = [label.get_text() for label in figures[0].axes[0].get_xticklabels()]
    assert labels == ["64²\n16³\n32 x 128", "128²"]


def test_what_was_not_measured_is_not_drawn(draw):
    assert draw([row(), row(method="in-place conv", seconds=None)])[0] == [
        "msdtool, 2D, depth 30, width 1"
    ]
    assert draw([row(seconds=None)]) == [[], []]


def test_the_figure_is_a_png(tmp_path):
    costs.save_costs(tmp_path / "costs.png", [row(), row(space=(128, 128), seconds=4.0)])
    with Image.open(tmp_path / "costs.png") as image:
        assert image.format == "PNG"

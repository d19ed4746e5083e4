import imageio.v3 as iio
import numpy as np
import pytest
from matplotlib.figure import Figure

from msdtool.errors import Error
from msdtool.measure.comparisons import Comparison
from msdtool.report.curves import save_curves
from msdtool.report.pictures import save_comparisons, save_figure
from tests.helpers import PNG_START

RNG = np.random.default_rng(0)


def drawn(path, rows, labels=()):
    save_comparisons(path, rows, labels)
    assert path.read_bytes().startswith(PNG_START)
    return iio.imread(path)[..., :3].astype(int)


def comparison(shape=(1, 8, 9), **changes):
    images = {name: RNG.random(shape) for name in ("input", "output", "target")}
    return Comparison(**{**images, "title": "best", **changes})


def test_a_picture_grows_by_a_row_per_comparison(tmp_path):
    one = drawn(tmp_path / "one.png", [comparison()])
    three = drawn(tmp_path / "three.png", [comparison() for _ in range(3)])
    assert three.shape[0] == pytest.approx(3 * one.shape[0], abs=3)
    assert three.shape[1] == one.shape[1]


def test_values_are_shown_in_the_targets_range(tmp_path):
    """Input, output and target go from black to white at the same values."""
    target = np.linspace(100, 200, 64).reshape(1, 8, 8)
    picture = drawn(tmp_path / "a.png", [comparison(input=target, output=target, target=target)])
    quarter = picture.shape[1] // 4
    # The middle row of a panel, away from text: the same in all three.
    rows = [picture[picture.shape[0] // 2, i * quarter : (i + 1) * quarter] for i in range(3)]
    assert len(np.unique(rows[0][:, 0])) > 5
    assert {tuple(np.unique(row[:, 0])) for row in rows[1:]} == {tuple(np.unique(rows[0][:, 0]))}
    brighter = drawn(
        tmp_path / "b.png", [comparison(input=target, output=target + 1000, target=target)]
    )
    middle = brighter[brighter.shape[0] // 2, quarter : 2 * quarter, 0]
    assert np.mean(middle == 255) > 0.9  # beyond the range: white on a white page
    assert np.mean(rows[1][:, 0] == 255) < 0.5


def test_the_error_is_red_where_the_output_is_too_large_and_blue_where_it_is_too_small(tmp_path):
    target = np.zeros((1, 8, 8))
    output = target.copy()
    output[:, :, :4], output[:, :, 4:] = 2, -2
    picture = drawn(tmp_path / "a.png", [comparison(output=output, target=target)])
    row = picture[picture.shape[0] // 2, 3 * picture.shape[1] // 4 :]
    red, _, blue = row.T
    assert np.median(np.flatnonzero(red > blue + 60)) < np.median(np.flatnonzero(blue > red + 60))
    assert min(np.sum(red > blue + 60), np.sum(blue > red + 60)) > 100


@pytest.mark.parametrize(("side", "dots"), [(64, 110), (400, 125), (4000, 160)])
def test_large_images_have_more_dots(tmp_path, side, dots):
    path = tmp_path / "a.png"
    drawn(path, [comparison((1, 4, side))])
    assert iio.immeta(path)["dpi"] == pytest.approx((dots, dots), abs=0.1)


def test_a_volume_is_shown_by_its_middle_slice(tmp_path):
    volume = comparison((1, 5, 8, 9))
    slices = {name: getattr(volume, name)[:, 2] for name in ("input", "output", "target")}
    flat = Comparison(**slices, title="best, its slice 2")
    assert np.array_equal(drawn(tmp_path / "3d.png", [volume]), drawn(tmp_path / "2d.png", [flat]))


def test_labels_have_one_colour_each_and_what_does_not_count_has_none(tmp_path):
    labels = np.repeat([0, 1, 2, -100], 4).reshape(4, 4)
    colours = []
    for target in (labels, np.where(labels < 0, 0, labels)):
        row = comparison((1, 4, 4), output=np.zeros((4, 4), int), target=target)
        picture = drawn(tmp_path / "a.png", [row], (0, 1, 2))
        width = picture.shape[1]  # the third of four panels, left of the legend
        panel = picture[:, int(0.46 * width) : int(0.66 * width)].reshape(-1, 3)
        colourful = panel[panel.max(1) - panel.min(1) > 60]
        found, counts = np.unique(colourful, axis=0, return_counts=True)
        colours.append({tuple(c): n for c, n in zip(found, counts, strict=True) if n > 9000})
    assert len(colours[0]) == len(colours[1]) == 3
    assert sum(colours[1].values()) == pytest.approx(sum(colours[0].values()) * 4 / 3, rel=0.05)


def pixels_like(picture, colour, tolerance=60):
    return np.abs(picture - np.array(colour)).max(-1) < tolerance


def test_wrong_pixels_and_outlines_are_shown(tmp_path):
    target = np.zeros((8, 8), int)
    target[2:6, 2:6] = 1
    dark = np.zeros((1, 8, 8))
    panels = {}
    for name, output in (("right", target), ("wrong", np.zeros((8, 8), int))):
        row = comparison(input=dark, output=output, target=target)
        panels[name] = drawn(tmp_path / f"{name}.png", [row], (0, 255))
    red = {name: pixels_like(panel, (220, 20, 60)).sum() for name, panel in panels.items()}
    # A quarter of the panel, beside the patch in the legend, which both have.
    assert red["wrong"] - red["right"] > 0.8 * 0.25 * (3 * 110) ** 2 * 0.8
    first = panels["right"][:, : panels["right"].shape[1] // 5]
    assert pixels_like(first, (253, 231, 36)).sum() > 100  # the outline, in the label's colour


def test_the_slice_with_most_labelled_pixels_is_shown(tmp_path):
    target = np.full((5, 8, 9), -100)
    target[3, :4], target[4, 0] = 1, 1
    row = comparison((1, 5, 8, 9), output=np.zeros((5, 8, 9), int), target=target)
    found = drawn(tmp_path / "3d.png", [row], (0, 1))
    flat = comparison(
        input=row.input[:, 3], output=row.output[3], target=target[3], title="best, its slice 3"
    )
    expected = drawn(tmp_path / "2d.png", [flat], (0, 1))
    # Overlaps in the legend are those of the whole volume.
    assert np.array_equal(found[:, :1000], expected[:, :1000])


def test_wide_images_leave_no_gap(tmp_path):
    square, wide = (drawn(tmp_path / "a.png", [comparison((1, h, 40))]) for h in (40, 10))
    assert wide.shape[0] < 0.5 * square.shape[0]


def test_each_row_is_as_high_as_its_images(tmp_path):
    wide, high = (1, 10, 40), (1, 40, 20)
    one, other = (drawn(tmp_path / "a.png", [comparison(shape)]) for shape in (wide, high))
    both = drawn(tmp_path / "b.png", [comparison(wide), comparison(high)])
    assert both.shape[0] == pytest.approx(len(one) + len(other), abs=3)
    # Between the lines of text there is no band without any ink.
    blank = (both == 255).all((1, 2))
    runs = [len(run) for run in "".join("01"[int(row)] for row in blank).split("0")]
    assert max(runs) < 60


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_can_be_shown(tmp_path, channels):
    rows = [comparison((channels, 8, 9), target=RNG.random((1, 8, 9)), output=np.ones((1, 8, 9)))]
    drawn(tmp_path / "a.png", rows)
    volume = RNG.integers(0, 2, (3, 8, 9))
    drawn(
        tmp_path / "b.png", [comparison((channels, 3, 8, 9), output=volume, target=volume)], (0, 1)
    )


def test_constant_and_not_finite_images_can_be_shown(tmp_path):
    target = np.zeros((1, 8, 8))
    output = target.copy()
    output[0, 0, 0] = np.nan
    drawn(tmp_path / "a.png", [comparison(output=output, target=target)])


@pytest.mark.parametrize("name", ["a$x^$", "$\\frac$", "\udce4", "\U0001f600", "_a"])
def test_any_name_can_be_drawn(tmp_path, name):
    drawn(tmp_path / "a.png", [comparison(title=name)])
    rows = [{"epoch": 1, "train_loss": 0.5, "psnr": 20.0}]
    save_curves(tmp_path / "b.png", {name: rows, "other": rows})


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Error, match=r"file/a\.png: cannot be written: "):
        save_figure(tmp_path / "file" / "a.png", Figure())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

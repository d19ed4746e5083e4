import numpy as np
import pytest

from msdtool.data import ImageStack
from msdtool.errors import ConfigError, InputError
from msdtool.view import Kind, save_view
from tests.helpers import write_image, write_stack
from tests.html import Page

RNG = np.random.default_rng(0)


def view(tmp_path, kinds, **options):
    stacks = [Kind(name, ImageStack(tmp_path / name)) for name in kinds]
    save_view(tmp_path / "view.html", stacks, **options)
    page = Page(tmp_path / "view.html")
    page.check_policy()
    return page


def test_images_and_results_have_the_window_of_the_results(tmp_path):
    result = np.linspace(0, 1, 80, dtype=np.float32).reshape(8, 10)
    write_stack(tmp_path / "in", [result * 3 - 1])
    write_stack(tmp_path / "out", [result])
    page = view(tmp_path, ("in", "out"), window=(0, 1))
    input, output = (np.asarray(picture)[..., 0] for picture in page.pictures)
    assert np.array_equal(output, np.rint(255 * result))
    assert np.array_equal(input, np.rint(255 * (result * 3 - 1).clip(0, 1)))
    low, high = np.percentile(result, (0.5, 99.5))
    said = view(tmp_path, ("in", "out")).said
    assert said.count(f"black {low:.5g}, white {high:.5g}") == 2


def test_values_of_another_unit_have_a_window_of_their_own(tmp_path):
    image = RNG.random((8, 10)).astype(np.float32)
    write_stack(tmp_path / "in", [image * 1000 + 500])
    write_stack(tmp_path / "out", [image])
    said = view(tmp_path, ("in", "out")).said
    for values in (image * 1000 + 500, image):
        low, high = np.percentile(values, (0.5, 99.5))
        assert f"black {low:.5g}, white {high:.5g}" in said


def test_slices_of_a_volume_are_one_section_and_are_chosen_evenly(tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        volume = np.full((9, 4, 5), np.arange(9)[:, None, None], np.float32)
        write_image(tmp_path / name / "a.tif", volume, "ZYX")
    page = view(tmp_path, ("in", "out"), count=3, window=(0, 8))
    levels = [picture.getpixel((0, 0))[0] for picture in page.pictures]
    assert levels == [0, 0, 128, 128, 255, 255]  # slices 0, 4 and 8 of both
    assert "3 of 9 images" in page.said and "a.tif[4]" in page.said
    assert [tag for tag, _ in page.elements].count("section") == 1


def test_large_images_are_averages_and_their_centre(tmp_path):
    image = RNG.random((41, 30)).astype(np.float32)
    write_stack(tmp_path / "in", [image])
    page = view(tmp_path, ("in",), size=20, window=(0, 1))
    whole, centre = (np.asarray(picture)[..., 0] for picture in page.pictures)
    expected = [
        [image[3 * y : 3 * y + 3, 3 * x : 3 * x + 3].mean() for x in range(10)] for y in range(13)
    ]
    assert np.abs(whole - 255 * np.array(expected)).max() <= 0.51
    assert np.array_equal(centre, np.rint(255 * image[10:30, 5:25]))
    assert "averages of 3 x 3 pixels" in page.said


def test_labels_have_colours_and_are_not_averaged(tmp_path):
    write_stack(tmp_path / "in", RNG.random((2, 40, 40)).astype(np.float32))
    labels = RNG.choice([0, 3, 200], (2, 40, 40)).astype(np.uint8)
    write_stack(tmp_path / "out", labels)
    page = view(tmp_path, ("in", "out"), size=20)
    assert page.said.count("labels 0 to 200") == 4
    whole = page.pictures[1]
    assert whole.size == (20, 20)
    colours = {colour for _, colour in whole.getcolors()}
    assert len(colours) == 3
    assert whole.getpixel((1, 0)) == (68, 1, 84) or labels[0, 0, 2] != 0  # 0 is viridis' first


def test_enlarged_results_are_compared(tmp_path):
    write_stack(tmp_path / "in", [np.zeros((10, 10), np.float32)])
    write_stack(tmp_path / "out", [np.zeros((40, 40), np.float32)])
    page = view(tmp_path, ("in", "out"), size=20)
    assert [picture.size for picture in page.pictures] == [(10, 10), (20, 20)]


def test_what_holds_no_number_is_black(tmp_path):
    write_stack(tmp_path / "in", [np.full((4, 4), np.nan, np.float32)])
    assert view(tmp_path, ("in",)).pictures[0].getcolors() == [(16, (0, 0, 0))]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((3, 4, 5)),
            "the number of images differs: in has 2, out 3; each image needs its partner",
        ),
        (np.zeros((2, 4, 9)), r"image_000\.tif has 4 x 9 pixels, .*image_000\.tif 4 x 5"),
    ],
)
def test_images_that_are_no_pairs_are_refused(tmp_path, images, message):
    write_stack(tmp_path / "in", np.zeros((2, 4, 5), np.float32))
    write_stack(tmp_path / "out", images.astype(np.float32))
    with pytest.raises(InputError, match=message):
        view(tmp_path, ("in", "out"))


def test_other_files_are_not_replaced(tmp_path):
    write_stack(tmp_path / "in", np.zeros((1, 4, 5), np.float32))
    (tmp_path / "view.html").write_text("mine")
    with pytest.raises(ConfigError, match="it exists and is something else"):
        view(tmp_path, ("in",))

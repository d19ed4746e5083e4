"""msdtool view."""

import numpy as np
import pytest

from tests.helpers import write_stack
from tests.html import Page


def test_it_prints_the_path_of_a_page(cli, images, tmp_path):
    page = tmp_path / "view.html"
    result = cli("view", images, images, "-o", page, "--window", "0:2", "--count", 2, "-q")
    assert (result.code, result.out, result.err) == (0, f"{page}\n", "")
    assert "2 of 3 images" in Page(page).said


def test_names_that_disagree_are_said(cli, images, tmp_path):
    other = write_stack(tmp_path / "out", [np.ones((20, 24), np.float32)] * 3)
    (other / "image_001.tif").rename(other / "image_007.tif")
    result = cli("view", images, other, "-o", tmp_path / "view.html")
    assert result.code == 0
    assert "image_001.tif is paired with image_002.tif" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "2:1"], "--window: got 2:1; expected LOW:HIGH, such as 0:1.5"),
        (["--window", "0:nan"], "--window: got 0:nan; expected LOW:HIGH"),
        (["--window", "1"], "--window: got 1; expected LOW:HIGH"),
        (["in"] * 6, "IMAGES: got 7; allowed: up to 6. Quote patterns"),
    ],
)
def test_what_cannot_be_is_refused(cli, images, tmp_path, options, message):
    result = cli("view", images, *options, "-o", tmp_path / "view.html")
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "view.html").exists()

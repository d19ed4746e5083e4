import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from msdtool.errors import ModelFileError
from msdtool.report.panels import PANELS_KEY, cut, grey_png, label_png


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def png(text=None):
    said, content = PngInfo(), io.BytesIO()
    if text is not None:
        said.add_itxt(PANELS_KEY, text)
    Image.new("RGB", (20, 10), "red").save(content, "PNG", pnginfo=said)
    return content.getvalue()


def test_a_figure_is_cut_where_it_says(tmp_path):
    text = '{"title": "a", "panels": [["input", "note", [1, 0, 11, 10]]], "legend": []}'
    found = cut(png(text), tmp_path)
    (panel,) = found.panels
    assert (found.title, panel.name, panel.note) == ("a", "input", "note")
    assert pixels(panel.image).shape == (6, 6, 3)  # without the line around it


def test_a_figure_that_says_nothing_stays_whole(tmp_path):
    (panel,) = cut(png(), tmp_path).panels
    assert panel.image == png()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        png()[:40],
        png("[]"),
        png("{"),
        png('{"panels": 1}'),
        png('{"panels": [[1]]}'),
        png('{"panels": [["a", "", [0, 0, 30, 10]]]}'),
        png('{"panels": [["a", "", [9, 0, 3, 10]]]}'),
        png('{"panels": [["a", "", ["x", 0, 3, 10]]]}'),
        png('{"panels": [], "legend": [1]}'),
    ],
)
def test_what_is_damaged_is_named(tmp_path, content):
    with pytest.raises(ModelFileError, match=r"worst\.png: is not a PNG; remove it"):
        cut(content, tmp_path / "worst.png")


def test_greys_go_from_black_to_white_in_the_window():
    image = np.array([[-1.0, 0.0, 1.0, 2.0, 3.0, np.nan]])
    assert pixels(grey_png(image, (0.0, 2.0))).tolist() == [[0, 0, 128, 255, 255, 0]]
    coloured = np.stack([image, image, image * 0], -1)
    assert pixels(grey_png(coloured, (0.0, 2.0)))[0, 3].tolist() == [255, 255, 0]


def test_each_label_has_its_colour():
    found = pixels(label_png(np.array([[0, 5], [9, 5]]), [0, 5, 9]))
    assert len(np.unique(found.reshape(-1, 3), axis=0)) == 3
    assert (found[0, 1] == found[1, 1]).all()

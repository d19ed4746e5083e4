import csv
import json
import sys

import numpy as np
import pytest
import tifffile

pytest.importorskip("cc3d")


@pytest.fixture
def image(tmp_path):
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 1:5] = 2
    labels[4, 6:] = labels[5, 7] = 1
    labels[3, 5] = 2  # touches the first by a corner
    options = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "mm"}}
    tifffile.imwrite(tmp_path / "a.tif", labels, **options)
    return tmp_path / "a.tif"


def test_objects_are_listed_in_the_unit_of_the_file(cli, image):
    result = cli("objects", image, "--smallest", "2")
    assert (result.code, result.err) == (0, "")
    assert list(csv.DictReader(result.out.splitlines())) == [
        {"image": str(image), "object": "1", "label": "2", "pixels": "8", "area": "2",
         "unit": "mm", "y": "0.75", "x": "1.25",
         "first_y": "1", "first_x": "1", "last_y": "2", "last_x": "4"},
        {"image": str(image), "object": "2", "label": "1", "pixels": "3", "area": "0.75",
         "unit": "mm", "y": "2.166667", "x": "3.333333",
         "first_y": "4", "first_x": "6", "last_y": "5", "last_x": "7"},
    ]  # fmt: skip


def test_json_has_a_line_for_each_object(cli, image, tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 3), np.uint8), photometric="minisblack")
    result = cli("objects", "-", "--json", "--corners", stdin=f"{image}\n{tmp_path / 'b.tif'}\n")
    rows = list(map(json.loads, result.out.splitlines()))
    assert [(row["object"], row["label"], row["pixels"]) for row in rows] == [(1, 2, 9), (2, 1, 3)]


def test_volumes_have_three_axes(cli, tmp_path):
    np.save(tmp_path / "v.npy", np.ones((2, 3, 4), np.uint8))
    result = cli("objects", tmp_path / "v.npy", "--ndim", "3", "--quiet")
    row = next(csv.DictReader(result.out.splitlines()))
    assert (row["volume"], row["unit"], row["z"], row["last_x"]) == ("24", "pixels", "0.5", "3")


def test_a_missing_package_is_named(cli, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "cc3d", None)
    result = cli("objects", image)
    assert result.code == 3
    assert "pip install 'msdtool[objects]'" in result.err


def test_a_number_of_axes_is_2_or_3(cli, image):
    result = cli("objects", image, "--ndim", "4")
    assert result.code == 2
    assert "--ndim: got 4; allowed: 2, 3" in result.err

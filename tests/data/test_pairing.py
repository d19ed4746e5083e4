"""Whether the names of paired files agree."""

import numpy as np
import pytest
import tifffile

from msdtool import ImageDataset
from msdtool.data.pairing import disagreeing_pairs

from ..helpers import write_image


@pytest.mark.parametrize(
    ("inputs", "targets", "differing"),
    [
        (["a_1.tif", "a_2.tif"], ["b_1.tif", "b_2.tif"], []),
        (["a_1.tif", "a_3.tif"], ["b_1.tif", "b_2.tif"], [("a_3.tif", "b_2.tif")]),
        (["scan_003.tif"], ["scan_3.png"], []),
        (["a.tif", "b.tif"], ["c.tif", "d.tif"], []),
        (["a_1.tif"], ["b.tif"], []),
        (["run2_5.tif"], ["run7_5.tif"], []),
        (["5.tif", "6.tif"], ["6.tif", "7.tif"], [("5.tif", "6.tif"), ("6.tif", "7.tif")]),
    ],
)
def test_pairs_whose_last_numbers_differ(tmp_path, inputs, targets, differing):
    for folder, names in (("in", inputs), ("out", targets)):
        (tmp_path / folder).mkdir()
        for name in names:
            write_image(tmp_path / folder / name, np.ones((2, 2), np.uint8))
    found = disagreeing_pairs(ImageDataset(tmp_path / "in", tmp_path / "out"))
    assert [(a.name, b.name) for a, b in found] == differing


def test_single_files_may_be_called_anything(tmp_path):
    for name in ("scan_1", "scan_2"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((3, 4, 4)), photometric="minisblack")
    pairs = ImageDataset(tmp_path / "scan_1.tif", tmp_path / "scan_2.tif")
    assert len(pairs) == 3 and not disagreeing_pairs(pairs)

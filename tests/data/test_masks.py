"""Which pixels of a mask count."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from msdtool import ImageDataset
from msdtool.errors import InputError

COUNTS = np.arange(42).reshape(6, 7) % 3


@pytest.fixture
def pair(tmp_path):
    """An input and a target."""
    for kind in ("input", "target"):
        tifffile.imwrite(tmp_path / f"{kind}.tif", np.ones((6, 7), np.float32))
    return tmp_path / "input.tif", tmp_path / "target.tif"


def mask_of(pair, path):
    return ImageDataset(*pair, mask_path_specifier=path)[0][2][0].numpy()


def test_the_indices_of_a_palette_count_not_its_colours(pair, tmp_path):
    image = Image.fromarray(COUNTS.astype(np.uint8), "P")
    image.putpalette([224, 224, 192, 128, 0, 0, 0, 0, 0])
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(mask_of(pair, tmp_path / "mask.png"), COUNTS > 0)


def test_colours_count_where_one_is_not_black(pair, tmp_path):
    Image.fromarray(np.diag([0, 1, 1]).astype(np.uint8)[COUNTS]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(mask_of(pair, tmp_path / "mask.png"), COUNTS > 0)


def test_nan_in_a_mask_is_refused(pair, tmp_path):
    mask = np.where(COUNTS > 0, np.float32(1), np.float32(np.nan))
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    with pytest.raises(InputError, match=r"mask\.tif: 14 pixels of the mask are NaN; save it wit"):
        mask_of(pair, tmp_path / "mask.tif")

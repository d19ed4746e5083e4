import numpy as np
import pytest
import tifffile

from msdtool.data.spacing import spacing
from msdtool.data.specifiers import Location


@pytest.mark.parametrize(
    ("unit", "expected"), [("um", ((0.25, 0.5), "µm")), (None, ((1.0, 1.0), "pixels"))]
)
def test_the_size_of_pixels_is_that_of_the_file(tmp_path, unit, expected):
    metadata = {} if unit is None else {"unit": unit}
    options = {"imagej": True, "resolution": (2, 4), "metadata": metadata}
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 4), np.uint8), **options)
    assert spacing(Location(tmp_path / "a.tif"), 2) == expected

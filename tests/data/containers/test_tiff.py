"""Windows of TIFFs whose pages are compressed in strips or tiles."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool.data.readers import read_image
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

SHAPE = (3, 50, 70)
LAYOUTS = {
    "one strip": {"rowsperstrip": 50},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "predictor": {"rowsperstrip": 16, "predictor": True},
    "other byte order": {"tile": (32, 16), "byteorder": ">"},
}
VOLUME = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.uint16)


@pytest.fixture(scope="module", params=LAYOUTS)
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    options = LAYOUTS[request.param]
    tifffile.imwrite(path, VOLUME, photometric="minisblack", compression="zlib", **options)
    return path


def span(size):
    return st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(
        lambda pair: slice(pair[0], max(pair[1], pair[0] + 1))
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2), span(50), span(70))
def test_a_window_is_that_part_of_the_page(path, page, rows, columns):
    found = read_image(path, index=page, region=(rows, columns))
    assert found.dtype == VOLUME.dtype
    np.testing.assert_array_equal(found[0], VOLUME[page, rows, columns])


def test_an_axis_of_the_page_may_count_images(path):
    found = read_image(Location(path, axes="XYZ"), index=61, region=(slice(4, 20), slice(1, 3)))
    np.testing.assert_array_equal(found[0], VOLUME[1:3, 4:20, 61].T)


def test_only_the_strips_that_a_window_touches_are_decoded(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME, photometric="minisblack", compression="zlib", rowsperstrip=10)
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[1].dataoffsets[3], file.pages[1].databytecounts[3]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))  # rows 30 to 39 of page 1 are none any more
    for rows in (slice(0, 30), slice(40, 50)):
        found = read_image(path, index=1, region=(rows, slice(0, 70)))
        np.testing.assert_array_equal(found[0], VOLUME[1, rows])
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as an image"):
        read_image(path, index=1, region=(slice(29, 31), slice(0, 70)))


def test_tiles_that_a_file_leaves_out_are_empty(tmp_path):
    """Written by those that save the space of what is 0; here their entries are set to nothing."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VOLUME[0], photometric="minisblack", compression="zlib", tile=(16, 32))
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = file.pages[0].tags[name]
            tag.overwrite([0, *tag.value[1:]])
    expected = VOLUME[0].copy()
    expected[:16, :32] = 0
    np.testing.assert_array_equal(read_image(path)[0], expected)
    found = read_image(path, region=(slice(10, 20), slice(30, 40)))
    np.testing.assert_array_equal(found[0], expected[10:20, 30:40])

"""Windows of TIFFs whose pages are compressed in strips or tiles."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from msdtool import ImageStack
from msdtool.data.readers import notes, read_image
from msdtool.data.specifiers import Location, Source
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
    found = read_image(path, index=page, window=(rows, columns))
    assert found.dtype == VOLUME.dtype
    np.testing.assert_array_equal(found[0], VOLUME[page, rows, columns])


def test_an_axis_of_the_page_may_count_images(path):
    found = read_image(Location(path, axes="XYZ"), index=61, window=(slice(4, 20), slice(1, 3)))
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
        found = read_image(path, index=1, window=(rows, slice(0, 70)))
        np.testing.assert_array_equal(found[0], VOLUME[1, rows])
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as an image"):
        read_image(path, index=1, window=(slice(29, 31), slice(0, 70)))


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
    found = read_image(path, window=(slice(10, 20), slice(30, 40)))
    np.testing.assert_array_equal(found[0], expected[10:20, 30:40])


# Pages beside the image, and what tags say about it --------------------------------------------

GREY = np.random.default_rng(1).integers(0, 255, (32, 40), dtype=np.uint8)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("first", [False, True])
def test_overviews_and_thumbnails_are_not_images(tmp_path, compression, first):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        options = {"metadata": None, "compression": compression}
        if not first:
            file.write(GREY, photometric="minisblack", **options)
        for step in (2, 4):
            smaller = np.ascontiguousarray(GREY[::step, ::step])
            file.write(smaller, photometric="minisblack", subfiletype=1, **options)
        file.write(np.zeros((16, 16, 3), np.uint8), photometric="rgb", subfiletype=1, **options)
        if first:
            file.write(GREY, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], GREY)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_mask_page_is_not_an_image(tmp_path, compression):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for subfiletype in (0, 1, 0, 1):
            file.write(
                GREY // (subfiletype + 1),
                photometric="minisblack",
                metadata=None,
                subfiletype=subfiletype,
                compression=compression,
            )
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in (1, 3):
            file.pages[page].tags[254].overwrite(4)
    for index in (0, 1):
        np.testing.assert_array_equal(read_image(path, index=index)[0], GREY)
    with pytest.raises(InputError, match="holds 2 images"):
        read_image(path)


def test_a_file_of_nothing_but_a_thumbnail(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], GREY)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_opacity_is_neither_averaged_nor_a_label(tmp_path, compression, extra):
    labels = GREY % 3
    rgba = np.dstack([labels, labels, labels, np.full_like(labels, 255)])
    options = {"extrasamples": [extra], "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", **options)
    averaged = ImageStack(str(tmp_path / "a.tif"), collapse_channels=True)[0][0]
    np.testing.assert_array_equal(averaged, labels)
    found = ImageStack(str(tmp_path / "a.tif"), labels=3)[0][0]
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("kinds", [("unassalpha", "unspecified"), ("unspecified", "unassalpha")])
def test_opacity_may_be_any_of_the_extra_samples(tmp_path, kinds):
    others = {"unspecified": GREY // 2, "unassalpha": np.full_like(GREY, 255)}
    values = np.dstack([GREY, GREY, GREY, *(others[kind] for kind in kinds)])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=kinds)
    stack = ImageStack(str(tmp_path / "a.tif"), collapse_channels=True)
    np.testing.assert_allclose(stack[0][0], (3.0 * GREY + GREY // 2) / 4, rtol=1e-6)
    opacity = 3 + kinds.index("unassalpha")
    (note,) = ImageStack(str(tmp_path / "a.tif")).notes(0)
    assert note.startswith(f"channel {opacity} (from 0) is opacity")


def test_samples_that_are_named_slices_have_no_opacity(tmp_path):
    rgba = np.dstack([GREY, GREY + 1, GREY + 2, GREY + 3])
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    stack = ImageStack(Source(str(tmp_path / "a.tif"), axes="YXZ"), collapse_channels=True)
    np.testing.assert_array_equal([image[0] for image in stack], rgba.transpose(2, 0, 1))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("program", ["ImageJ", "OME"])
def test_pages_that_a_description_leaves_out_are_not_dropped(tmp_path, compression, program):
    pages = np.stack([GREY + page for page in range(5)])
    description = "ImageJ=1.53\nimages=3\nslices=3\n"
    if program == "OME":
        size = f'SizeX="{GREY.shape[1]}" SizeY="{GREY.shape[0]}" SizeZ="3" SizeC="1" SizeT="1"'
        description = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{GREY.dtype}" '
            f'{size}><Channel ID="C:0"/><TiffData/></Pixels></Image></OME>'
        )
    options = {"description": description, "metadata": None, "compression": compression}
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", **options)
    with pytest.raises(InputError, match=rf"of {program}, leaves out 2 of its 5 pages|damaged"):
        ImageStack(str(tmp_path / "a.tif"))


def test_a_fourth_sample_that_is_not_opacity_counts(tmp_path):
    values = np.dstack([GREY // 2] * 3 + [GREY])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unspecified"])
    averaged = ImageStack(str(tmp_path / "a.tif"), collapse_channels=True)[0][0]
    np.testing.assert_allclose(averaged, values.mean(axis=2), rtol=1e-6)


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
    'Type="uint8" SizeX="40" SizeY="32" SizeZ="3" SizeC="1" SizeT="1">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
)
PLANE = (
    '<TiffData FirstC="0" FirstT="0" FirstZ="{0}" IFD="0" PlaneCount="1">'
    '<UUID FileName="z{0}.ome.tif">urn:uuid:{0}</UUID></TiffData>'
)


@pytest.mark.parametrize("kept", [[0, 1, 2], [1]])
def test_a_file_of_an_ome_set_holds_its_own_slice(tmp_path, kept):
    planes = "".join(PLANE.format(number) for number in range(3))
    for number in kept:
        tifffile.imwrite(
            tmp_path / f"z{number}.ome.tif",
            np.full((32, 40), 10 * number, np.uint8),
            description=OME.format(own=number, planes=planes),
            metadata=None,
            photometric="minisblack",
        )
    stack = ImageStack(str(tmp_path))
    assert [float(stack[index].mean()) for index in range(len(stack))] == [10 * n for n in kept]


def test_what_tags_say_about_pixels(tmp_path):
    tags = [(42113, 2, 6, "-9999", True), (274, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, extratags=tags)
    missing, turned = notes(Location(tmp_path / "a.tif"))
    assert missing == "the value -9999 stands for missing pixels (the tag GDAL_NODATA)"
    assert turned.startswith("viewers turn or mirror the image (the tag Orientation is 6)")
    tifffile.imwrite(tmp_path / "b.tif", GREY)
    assert notes(Location(tmp_path / "b.tif")) == ()


@pytest.mark.parametrize("pages", [3, 150])
@pytest.mark.parametrize("big", [False, True])
def test_pages_in_a_circle_are_refused(tmp_path, pages, big):
    """tifffile follows them for ever."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for number in range(pages):
            page = np.full((2, 3), number, np.uint8)
            writer.write(page, contiguous=False, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        start, last = (tiff.pages[number].offset for number in (1, -1))
        size, head = (20, 8) if big else (12, 2)
        place = last + head + size * len(tiff.pages[-1].tags)
    with path.open("r+b") as file:
        file.seek(place)
        assert not any(file.read(4))
        file.seek(place)
        file.write(start.to_bytes(4, "little"))
    with pytest.raises(InputError) as error:
        read_image(path)
    assert error.value.message == (
        f"{path}: is damaged: page {pages} is followed by an earlier page"
    )


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
def test_a_size_that_the_file_has_no_bytes_for_is_refused(tmp_path, compression):
    path = tmp_path / "a.tif"
    image = np.zeros((6, 400), np.uint8)
    options = {"metadata": None, "rowsperstrip": 4, "compression": compression}
    tifffile.imwrite(path, image, photometric="minisblack", **options)
    assert np.array_equal(read_image(path)[0], image)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(2**31)
    with pytest.raises(InputError, match="is damaged or truncated: 6 x 2147483648 values need at"):
        read_image(path)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd"])
def test_the_best_compression_there_is_is_no_damage(tmp_path, compression):
    image = np.zeros((2000, 2000), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, rowsperstrip=2000, compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif")[0], image)

"""Image files to arrays."""

import sys
from itertools import pairwise

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from msdtool.data.extras import load_extra
from msdtool.data.readers import count_images, read_image
from msdtool.data.specifiers import Location
from msdtool.errors import InputError

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]


def example(dtype, shape):
    """An array with the extreme values of its type among others."""
    rng = np.random.default_rng(0)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        array = rng.normal(0, 100, shape).astype(dtype)
        array.flat[:2] = np.finfo(dtype).min, np.finfo(dtype).max
    else:
        limits = np.iinfo(dtype)
        array = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        array.flat[:2] = limits.min, limits.max
    return array


def refusal(path, ndim=2, index=None):
    with pytest.raises(InputError) as error:
        read_image(path, ndim, index=index)
    assert error.value.message.startswith(f"{path}: ")
    return error.value.message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("shape", [(7,), (5, 7), (4, 5, 7)], ids=["1D", "2D", "3D"])
@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_tiff_of_every_type_and_1_to_3_dimensions(tmp_path, dtype, shape):
    array = example(dtype, shape)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="minisblack" if shape[1:] else None)
    pages = array.reshape((1, 1, 1, *shape)[-3:])
    assert count_images(path) == len(pages)
    for index, page in enumerate(pages):
        found = read_image(path, index=index)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, page[np.newaxis])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
def test_compressed_tiff(tmp_path, compression, dtype):
    pytest.importorskip("imagecodecs")
    array = example(dtype, (9, 11))
    tifffile.imwrite(tmp_path / "a.tiff", array, compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff"), array[np.newaxis])


@pytest.mark.parametrize("is_broken", [False, True])
def test_what_decodes_may_be_missing_or_broken(tmp_path, monkeypatch, is_broken):
    """Without it, tifffile looks for modules of Python's that only later versions have."""

    class Broken:
        def find_spec(self, name, *_):
            if name == "imagecodecs":
                raise ImportError("libzstd.so.1: no such file")

    def decode(*_, **__):
        raise ModuleNotFoundError("No module named 'compression'")

    tifffile.imwrite(tmp_path / "a.tif", example("uint8", (9, 11)), compression="zlib")
    monkeypatch.setattr("msdtool.data.containers.tiff.TiffPages.read", decode)
    if is_broken:
        monkeypatch.delitem(sys.modules, "imagecodecs", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        problem = "is installed but broken (ImportError: libzstd.so.1: no such file); remove it"
    else:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        problem = "is not installed; install it with: pip install 'msdtool[codecs]'"
    with pytest.raises(InputError) as error:
        read_image(tmp_path / "a.tif")
    assert f"needs the package imagecodecs, which {problem}" in error.value.message


def test_a_package_that_finds_no_home_is_not_called_broken(tmp_path, monkeypatch):
    class Homeless:
        def find_spec(self, name, *_):
            if name == "h5py":
                raise PermissionError(13, "Permission denied", "/root/.cupy")

    monkeypatch.delitem(sys.modules, "h5py", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Homeless(), *sys.meta_path])
    with pytest.raises(InputError) as error:
        load_extra("h5py", tmp_path / "a.h5")
    assert error.value.message == (
        f"{tmp_path}/a.h5: needs the package h5py, which cannot be imported: /root/.cupy: "
        "Permission denied. Set MSDTOOL_CACHE to a folder that you may write to"
    )


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_big_endian_tiled_bigtiff(tmp_path, dtype):
    array = example(dtype, (40, 50))
    tifffile.imwrite(tmp_path / "a.TIF", array, byteorder=">", bigtiff=True, tile=(16, 16))
    found = read_image(tmp_path / "a.TIF")
    np.testing.assert_array_equal(found, array[np.newaxis])


def test_bilevel_tiff(tmp_path):
    array = example("uint8", (5, 9)) > 127
    tifffile.imwrite(tmp_path / "a.tif", array)
    found = read_image(tmp_path / "a.tif")
    assert found.dtype == bool
    np.testing.assert_array_equal(found[0], array)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_colour_tiff_has_channels_first(tmp_path, planarconfig, samples):
    channels_first = example("uint8", (samples, 6, 5))
    array = np.moveaxis(channels_first, 0, -1) if planarconfig == "contig" else channels_first
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb",
        planarconfig=planarconfig,
        extrasamples=["unassalpha"] if samples == 4 else None,
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), channels_first)


@pytest.mark.parametrize("metadata", [{}, {"axes": "ZYX"}, {"axes": "TYX"}, None])
def test_pages_are_images(tmp_path, metadata):
    array = example("float32", (4, 6, 5))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=metadata)
    assert count_images(tmp_path / "a.tif") == 4
    for index in range(4):
        found = read_image(tmp_path / "a.tif", index=index)
        np.testing.assert_array_equal(found, array[np.newaxis, index])


def test_pages_that_are_called_channels_are_channels(tmp_path):
    array = example("float32", (4, 6, 5))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), array)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    np.testing.assert_array_equal(read_image(Location(tmp_path / "a.tif", axes="CYX")), array)


def test_pages_appended_one_by_one_become_images_and_slices(tmp_path):
    array = example("uint16", (4, 6, 5))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in array:
            file.write(page, contiguous=False)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", index=2)[0], array[2])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3), array[np.newaxis])


@pytest.mark.parametrize("metadata", [{}, {"axes": "ZYX"}, None])
def test_a_volume_is_one_channel_of_slices(tmp_path, metadata):
    array = example("int16", (4, 6, 5))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=metadata)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3), array[np.newaxis])


def test_a_volume_may_have_channels(tmp_path):
    array = example("float32", (2, 4, 6, 5))
    metadata = {"axes": "CZYX"}
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", metadata=metadata)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3), array)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
@pytest.mark.parametrize("suffix", ["png", "PNG"])
def test_png(tmp_path, mode, channels, suffix):
    array = example("uint8", (6, 5, channels))
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(array[..., 0] if channels == 1 else array, mode=None).save(path, "PNG")
    with Image.open(path) as image:
        assert image.mode == mode
    np.testing.assert_array_equal(read_image(path), np.moveaxis(array, -1, 0))


def test_16_bit_png(tmp_path):
    array = example("uint16", (6, 5))
    Image.fromarray(array).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, array[np.newaxis])


@pytest.mark.parametrize("colour_type", [2, 6])
def test_a_16_bit_colour_png_is_refused_rather_than_cut_to_8_bits(tmp_path, colour_type):
    path = tmp_path / "deep.png"
    size = b"".join(number.to_bytes(4, "big") for number in (13, 0x49484452, 5, 6))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + size + bytes([16, colour_type, 0, 0, 0]))
    with pytest.raises(InputError, match=r"deep\.png: a PNG file with 16 bits per colour.*as TIFF"):
        read_image(path)


def test_bilevel_png(tmp_path):
    array = example("uint8", (6, 5)) > 127
    Image.fromarray(array).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png") != 0, array[np.newaxis])


def test_a_palette_gives_colours_or_as_labels_its_indices(tmp_path):
    indices = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    palette = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 255]], dtype=np.uint8)
    image = Image.fromarray(indices, mode=None).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "a.png")
    colours = np.moveaxis(palette[indices], -1, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[:3], colours)
    found = read_image(tmp_path / "a.png", indexed=True)
    np.testing.assert_array_equal(found, indices[np.newaxis])


def test_without_a_palette_labels_are_the_values(tmp_path):
    array = example("uint8", (6, 5))
    Image.fromarray(array).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", indexed=True)[0], array)


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp(tmp_path, channels):
    array = example("uint8", (6, 5, channels))
    Image.fromarray(array[..., 0] if channels == 1 else array).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp"), np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(tmp_path, channels):
    """JPEG loses detail, but little of a smooth image."""
    ramp = np.linspace(20, 220, 40)[:, np.newaxis] + np.linspace(0, 20, 32)
    array = np.stack([ramp] * channels, axis=-1).round().astype(np.uint8)
    image = Image.fromarray(array[..., 0] if channels == 1 else array)
    image.save(tmp_path / "a.jpg", quality=95)
    found = read_image(tmp_path / "a.jpg")
    assert found.shape == (channels, 40, 32) and found.dtype == np.uint8
    difference = found.astype(float) - np.moveaxis(array, -1, 0)
    assert np.abs(difference).max() <= 4
    assert all((a > b).all() for b, a in pairwise(found[:, ::8].mean(axis=-1).T))


def test_an_animation_of_one_frame_is_an_image(tmp_path):
    iio.imwrite(tmp_path / "a.gif", np.full((1, 8, 9, 3), 255, np.uint8))
    assert read_image(tmp_path / "a.gif").shape == (3, 8, 9)


@pytest.mark.parametrize(
    ("shape", "ndim", "message"),
    [
        ((2, 3, 4, 5), 2, "holds 3 images (axes CZYX, shape (2, 3, 4, 5)), where one is expected; "
         "if they are its channels or a volume, set axes or network.ndim"),
        ((4, 5), 3, "the image has the axes YX, shape (4, 5); a volume needs Z, Y and X; save "
         "its slices as one file; for images, network.ndim is 2"),
        ((2, 2, 3, 4, 5), 3, "the image has 5 dimensions, shape (2, 2, 3, 4, 5), more than can be "
         "told apart; name them: {path: ..., axes: ZCYX}"),
    ],
)  # fmt: skip
def test_other_numbers_of_dimensions_are_refused(tmp_path, shape, ndim, message):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.float32), photometric="minisblack")
    assert refusal(tmp_path / "a.tif", ndim).startswith(message)


def test_pages_of_different_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for size in (4, 6):
            file.write(np.zeros((size, 5), np.uint8), contiguous=False)
    assert refusal(tmp_path / "a.tif") == (
        "contains images of different shapes or types: (4, 5), (6, 5)"
    )


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_pixels_are_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), dtype))
    assert refusal(tmp_path / "a.tif") == f"pixels of type {dtype} are not real numbers"


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.bmp"])
def test_an_empty_file_is_named(tmp_path, name):
    (tmp_path / name).touch()
    assert refusal(tmp_path / name) == "cannot be read as an image: the file is empty"


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "a.tif") == "no such file"
    assert refusal(tmp_path / "a.png") == "no such file"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.txt", "a"])
def test_text_is_no_image(tmp_path, name):
    (tmp_path / name).write_text("not an image\n" * 50)
    expected = "cannot be read as an image: its content is not in a known image format"
    assert refusal(tmp_path / name) == expected


def test_text_is_no_tiff(tmp_path):
    (tmp_path / "a.tif").write_text("not an image\n" * 50)
    assert refusal(tmp_path / "a.tif").startswith("cannot be read as an image: not a TIFF file")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.bmp"])
def test_a_truncated_file_is_no_image(tmp_path, name, kept):
    path = tmp_path / name
    iio.imwrite(path, np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    truncate(path, kept)
    found = refusal(path)
    assert found.startswith("cannot be read as an image: ")
    assert "truncated" in found.lower() or "failed to read 4096 bytes" in found


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("metadata", [{}, None], ids=["shaped", "plain"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_volume_cut_short_is_not_taken_for_a_thinner_one(tmp_path, compression, metadata, kept):
    """The pages that can be found would make an image of another shape.

    Releases of tifffile differ in whether lost directories matter when all pixels are there.
    """
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    volume = np.random.default_rng(0).integers(0, 256, (5, 40, 40), np.uint8)
    with tifffile.TiffWriter(path) as file:
        file.write(volume, compression=compression, photometric="minisblack", metadata=metadata)
    truncate(path, kept)
    for ndim, index in ((2, 4), (3, 0)):
        try:
            found = read_image(path, ndim, index=index)
        except InputError as error:
            reason = error.message.removeprefix(f"{path}: ")
            assert reason.startswith(("is damaged or truncated", "cannot be read as an image: "))
        else:
            assert kept == 0.95 and compression is None
            np.testing.assert_array_equal(found[0], volume if ndim == 3 else volume[index])


def test_odd_metadata_is_no_reason_to_complain(tmp_path, caplog):
    path = tmp_path / "a.tif"
    array = example("uint8", (5, 8))
    tifffile.imwrite(path, array, extratags=[(65000, "I", 2, (1, 2), True)], metadata=None)
    content = path.read_bytes()
    tag = (65000).to_bytes(2, "little")
    assert content.count(tag) == 1
    # An offset beyond the end of the file for the tag's values.
    start = content.index(tag) + 8
    path.write_bytes(content[:start] + b"\xff\xff\xff\x00" + content[start + 4 :])
    np.testing.assert_array_equal(read_image(path), array[np.newaxis])
    assert not caplog.records


def truncate(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])

"""Raster images are read as their files store them, whatever Pillow makes of few or many bits."""

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from msdtool import ImageStack
from msdtool.data.readers import read_image
from msdtool.errors import InputError

RNG = np.random.default_rng(0)


def png(values, bits):
    """A grey PNG of few bits per pixel, as optimisers write it."""
    height, width = values.shape
    planes = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in planes)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_grey_png_of_few_bits(tmp_path, bits):
    values = RNG.integers(0, 2**bits, (6, 16)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(png(values, bits))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], values)
    labels = ImageStack(str(tmp_path / "a.png"), labels=2**bits)[0]
    np.testing.assert_array_equal(labels[0], values)


@pytest.mark.parametrize("bits", [4, 7, 8, 9, 10, 12, 15, 16, 17, 20, 25])
def test_a_grey_jpeg_2000_of_any_depth(tmp_path, bits):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 2**bits, (16, 18))
    values = values.astype(np.uint32 if bits > 16 else np.uint16 if bits > 8 else np.uint8)
    for codec in ("jp2", "j2k"):
        options = {"reversible": True, "codecformat": codec, "level": 0, "bitspersample": bits}
        path = tmp_path / f"a.{codec}"
        path.write_bytes(imagecodecs.jpeg2k_encode(values, **options))
        np.testing.assert_array_equal(read_image(path)[0], values)


@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8, 9])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_colour_jpeg_2000_of_any_depth(tmp_path, bits, channels):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 2**bits, (16, 18, channels)).astype("u2" if bits > 8 else "u1")
    options = {"reversible": True, "level": 0, "bitspersample": bits, "mct": False}
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(values, **options))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jp2"), values.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_a_jpeg_2000_of_signed_values(tmp_path, dtype):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = RNG.integers(-100, 100, (16, 18)).astype(dtype)
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(values, reversible=True, level=0))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jp2")[0], values)


def test_a_colour_jpeg_2000_of_16_bits(tmp_path, monkeypatch):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 65536, (8, 9, 3)).astype(np.uint16)
    options = {"reversible": True, "codecformat": "jp2", "level": 0}
    content = imagecodecs.jpeg2k_encode(values, **options)
    (tmp_path / "a.jp2").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jp2"), values.transpose(2, 0, 1))
    (tmp_path / "b.jp2").write_bytes(content)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(InputError, match=r"b\.jp2: needs the package imagecodecs"):
        read_image(tmp_path / "b.jp2")


def test_a_jpeg_2000_of_more_bits_than_its_decoder_keeps_is_refused(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.full((16, 18), 2**26 - 3, np.uint32)
    options = {"reversible": True, "level": 0, "bitspersample": 26}
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(values, **options))
    with pytest.raises(InputError, match="a JPEG 2000 file with 26 bits per pixel cannot be read"):
        read_image(tmp_path / "a.jp2")


@pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="an older Pillow")
@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_avif_of_any_depth(tmp_path, bits, channels):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 2**bits, (16, 18, channels)).astype(np.uint16 if bits > 8 else "u1")
    grey = {"pixelformat": "400"} if channels == 1 else {}
    content = imagecodecs.avif_encode(values.squeeze(), bitspersample=bits, level=100, **grey)
    (tmp_path / "a.avif").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.avif"), values.transpose(2, 0, 1))


def test_fits_is_refused_rather_than_read_without_sign_scale_and_planes(tmp_path):
    cards = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 3", "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    (tmp_path / "a.fits").write_bytes(header + bytes(2880))
    with pytest.raises(
        InputError, match=r"a\.fits: msdtool does not read FITS; convert it to TIFF"
    ):
        read_image(tmp_path / "a.fits")


def test_a_format_that_pillow_may_read_in_part_is_refused(tmp_path):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "a.icns")
    with pytest.raises(InputError, match="msdtool does not read the format ICNS; convert it to T"):
        read_image(tmp_path / "a.icns")


def test_a_bmp_of_indices_into_black_and_white(tmp_path):
    """Pillow writes the mode P so, and reads its bytes as bits."""
    image = Image.fromarray(RNG.integers(0, 2, (6, 7), dtype=np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "a.bmp")
    with pytest.raises(InputError, match="a BMP of 8 bits with a grey palette; save it as PNG"):
        ImageStack(tmp_path / "a.bmp", labels=2)[0]
    image.convert("1").save(tmp_path / "b.bmp")
    assert ImageStack(tmp_path / "b.bmp", labels=2)[0][0].tolist() == np.asarray(image).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_viewers_show_it(tmp_path, orientation):
    grey = np.zeros((32, 48), np.uint8)
    grey[:8, :16] = 200
    image = Image.fromarray(grey)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], shown)
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg")[0].astype(int) - shown).max() < 3


def test_indices_of_a_palette_are_turned_likewise(tmp_path):
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4), "P")
    image.putpalette(RNG.integers(0, 256, 768).tolist())
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    labels = ImageStack(str(tmp_path / "a.png"), labels=12)[0][0]
    np.testing.assert_array_equal(labels, np.rot90(np.arange(12).reshape(3, 4), -1))


def test_a_png_beside_a_long_text(tmp_path):
    grey = RNG.integers(0, 255, (6, 7), dtype=np.uint8)
    info = PngImagePlugin.PngInfo()
    info.add_text("log", "x" * 2_000_000, zip=True)
    Image.fromarray(grey).save(tmp_path / "a.png", pnginfo=info)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], grey)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n", b"P5\n", b"\xff\x4f\xff\x51\0", b"\x01\xda"]
)
def test_a_header_that_is_cut_short(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
@pytest.mark.parametrize("options", [{}, {"labels": 4}])
def test_an_animation_of_grey_images_is_refused(tmp_path, suffix, options):
    """Its shape is [frames, H, W], which is not [H, W, colours]."""
    frames = [Image.fromarray(np.eye(5, 6, k, dtype=np.uint8) * 255) for k in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="is an animation"):
        ImageStack(tmp_path / f"a.{suffix}", **options)[0]


def test_a_gif_of_one_image_is_that_image(tmp_path):
    labels = np.arange(30, dtype=np.uint8).reshape(5, 6) % 4
    Image.fromarray(labels).save(tmp_path / "a.gif")
    assert ImageStack(tmp_path / "a.gif", labels=4)[0][0].tolist() == labels.tolist()


def test_black_is_not_the_opacity_of_cyan_magenta_and_yellow(tmp_path):
    cmyk = np.full((16, 16, 4), (0, 0, 0, 128), np.uint8)
    Image.fromarray(cmyk, "CMYK").save(tmp_path / "a.jpg", quality=100)
    mean = ImageStack(tmp_path / "a.jpg", collapse_channels=True)[0]
    np.testing.assert_allclose(mean, 128 / 4, atol=0.5)


def test_the_preview_in_a_photo_makes_it_no_animation(tmp_path):
    """Phones save a JPEG with a second one behind it (MPO)."""
    photo, preview = (Image.fromarray(np.full((16, 16), value, np.uint8)) for value in (90, 200))
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    with Image.open(tmp_path / "a.jpg") as file:
        assert file.n_frames == 2
    assert ImageStack(tmp_path / "a.jpg")[0].tolist() == np.full((1, 16, 16), 90).tolist()

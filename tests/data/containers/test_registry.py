"""Which format a file has."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from msdtool import ImageStack
from msdtool.data.containers.registry import FORMATS, format_at, format_of
from msdtool.data.sinks import SUFFIXES
from msdtool.specifier_grammar import Location


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.tif", "tif"),
        ("a.TIFF", "tif"),
        ("a.tf8", "tif"),
        ("a.nxs", "h5"),
        ("a.npy", "npy"),
        ("a.npz", "npz"),
        ("a.bin", "raw"),
        ("a.zarr", "zarr"),
        ("a.png", "raster"),
        ("a", "raster"),
    ],
)
def test_the_suffix_tells(name, format):
    assert format_of(Path(name)).name == format_at(Location(Path(name))).name == format


@pytest.mark.parametrize("name", ["a", "a.stk", "a.lsm", "a.svs", "a.gtiff", "a.001", "a.TIF_"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_tiff_of_any_name_is_a_tiff(tmp_path, name, options):
    pages = np.arange(3 * 18 * 20, dtype=np.uint16).reshape(3, 18, 20)
    with (tmp_path / name).open("wb") as file:
        tifffile.imwrite(file, pages, photometric="minisblack", metadata=None, **options)
    stack = ImageStack(tmp_path / name)
    assert [image[0].tolist() for image in stack] == pages.tolist()


@pytest.mark.parametrize("name", ["a.nc", "a.ims", "a.mat", "a.cxi", "a.h5py", "a"])
@pytest.mark.parametrize("block", [0, 512, 1024, 2048])
def test_hdf5_of_any_name_is_hdf5(tmp_path, name, block):
    h5py = pytest.importorskip("h5py")
    values = np.arange(4 * 6 * 7, dtype=np.uint8).reshape(4, 6, 7)
    with h5py.File(tmp_path / name, "w", userblock_size=block) as file:
        file["data"] = values
    for specifier in (f"{tmp_path}/{name}", f"{tmp_path}/{name}::/data"):
        assert [image[0].tolist() for image in ImageStack(specifier)] == values.tolist()


def test_an_array_of_any_name_is_an_array(tmp_path):
    values = np.arange(4 * 6 * 7).reshape(4, 6, 7)
    with (tmp_path / "a.array").open("wb") as file:
        np.save(file, values)
    assert ImageStack(tmp_path / "a.array")[2][0].tolist() == values[2].tolist()


def test_a_png_of_any_name_is_a_raster_image(tmp_path):
    Image.fromarray(np.eye(5, 6, dtype=np.uint8)).save(tmp_path / "a", "PNG")
    assert format_at(Location(tmp_path / "a")).name == "raster"
    assert ImageStack(tmp_path / "a")[0][0].tolist() == np.eye(5, 6).tolist()


def test_no_suffix_has_two_formats():
    suffixes = [suffix for format in FORMATS for suffix in format.suffixes]
    assert len(suffixes) == len(set(suffixes))


def test_what_is_known_of_a_file_counts_more_than_its_suffix(tmp_path):
    assert format_at(Location(Path("a.tif"), shape=(2, 2), dtype="uint8")).name == "raw"
    assert format_at(Location(Path("a.tif"), "data")).name == "zarr"
    assert format_at(Location(Path("a.h5"), "data")).name == "h5"
    assert format_at(Location(tmp_path)).name == "zarr"


def test_results_have_a_suffix_of_the_format_of_that_name():
    names = {format.name for format in FORMATS}
    for name, suffix in SUFFIXES.items():
        assert name not in names or format_of(Path("a").with_suffix(suffix)).name == name

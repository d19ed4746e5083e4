"""What results say about themselves, as other libraries read it."""

import h5py
import numpy as np
import ome_types
import pytest
import tifffile
import torch

from msdtool.architecture import Architecture
from msdtool.data.readers import arrangement, metadata, read_image
from msdtool.data.specifiers import Location
from msdtool.nn.build import build_network
from msdtool.predict import Predictor, plan_jobs, predict
from msdtool.predict.encoding import Encoding
from tests.predict.models import model_of

zarr = pytest.importorskip("zarr", "3")

VALUES = np.random.default_rng(0).integers(0, 4000, (2, 3, 20, 24)).astype(np.uint16)
SIZES = {"T": 5.0, "Z": 2.0, "Y": 0.5, "X": 0.25}
"""Seconds and micrometres."""


def make_predictor(c_out=1, ndim=2):
    """A network of two layers whose weights make every pixel unlike any other."""
    torch.manual_seed(0)
    architecture = Architecture(1, c_out, 2, 1, (1, 2), ndim=ndim, padding="reflect")
    network = build_network(architecture)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(0.1, 0.5)
    return Predictor(model_of(network, architecture), "cpu")


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


def run(predictor, source, output, **options):
    (done,) = predict(predictor, plan_jobs(source, output, **options))
    return done.job.output


def ome_tiff(folder):
    path = folder / "a.ome.tif"
    metadata = {"axes": "TZYX", "TimeIncrement": 5.0, "Channel": {"Name": ["DAPI"]}}
    metadata |= {f"PhysicalSize{letter}": SIZES[letter] for letter in "XYZ"}
    tifffile.imwrite(path, VALUES, metadata=metadata)
    return path


def imagej(folder):
    path = folder / "a.tif"
    metadata = {"axes": "TZYX", "unit": "um", "spacing": SIZES["Z"], "finterval": SIZES["T"]}
    resolution = (1 / SIZES["X"], 1 / SIZES["Y"])
    tifffile.imwrite(path, VALUES, imagej=True, resolution=resolution, metadata=metadata)
    return path


def nexus(folder):
    path = folder / "a.nxs"
    with h5py.File(path, "w") as file:
        group = file.create_group("entry")
        data = group.create_dataset("image", data=VALUES)
        data.attrs["units"] = "counts"
        for axis, letter in enumerate("TZYX"):
            data.dims[axis].label = letter.lower()
            group[letter.lower()] = SIZES[letter] * np.arange(VALUES.shape[axis])
            group[letter.lower()].attrs["units"] = "s" if letter == "T" else "um"
        group.attrs["axes"] = ["t", "z", "y", "x"]
    return path


def ome_zarr(folder):
    path = folder / "a.zarr"
    group = zarr.create_group(str(path))
    group.create_array("0", data=VALUES)
    axes = [{"name": "t", "type": "time", "unit": "second"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": list(SIZES.values())}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path


INPUTS = [ome_tiff, imagej, nexus, ome_zarr]


def sizes_of_ome_tiff(path):
    pixels = ome_types.from_tiff(path).images[0].pixels
    assert {pixels.physical_size_x_unit.value, pixels.physical_size_z_unit.value} == {"µm"}
    assert pixels.time_increment_unit.value == "s"
    found = (pixels.time_increment, pixels.physical_size_z, pixels.physical_size_y)
    return [*found, pixels.physical_size_x]


def sizes_of_ome_zarr(path):
    (image,) = zarr.open_group(str(path), mode="r").attrs["ome"]["multiscales"]
    return image["datasets"][0]["coordinateTransformations"][0]["scale"]


def sizes_of_hdf5(path):
    with h5py.File(path) as file:
        data = next(item for item in walk(file) if item.ndim == 4)
        return [dimension[0][1] - dimension[0][0] for dimension in data.dims]


def walk(group):
    for item in group.values():
        yield from walk(item) if isinstance(item, h5py.Group) else (item,)


OUTPUTS = {"b.ome.tif": sizes_of_ome_tiff, "b.ome.zarr": sizes_of_ome_zarr, "b.h5": sizes_of_hdf5}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("make", INPUTS)
def test_every_kind_hands_its_pixel_sizes_on_to_every_other(predictor, tmp_path, make, output):
    source = make(tmp_path)
    result = run(predictor, source, tmp_path / output)
    found = OUTPUTS[output](result)
    np.testing.assert_allclose(found, list(SIZES.values()), rtol=1e-5)
    again = metadata(Location(result), 2)
    assert {key: step.size for key, step in again.steps.items()} == pytest.approx(SIZES, rel=1e-5)
    assert arrangement(Location(result)).axes == "TZYX"


@pytest.mark.parametrize("make", INPUTS)
def test_a_result_has_the_kind_of_its_input(predictor, tmp_path, make):
    source = make(tmp_path)
    result = run(predictor, source, tmp_path / "out")
    assert metadata(Location(result), 2).convention == metadata(Location(source), 2).convention


@pytest.mark.parametrize("make", [ome_tiff, ome_zarr])
def test_volumes_and_channels_keep_their_places(tmp_path, make):
    """A network of volumes with two outputs: the channels come before the slices."""
    result = run(make_predictor(2, 3), make(tmp_path), tmp_path / "out")
    assert arrangement(Location(result), 3).axes == "TCZYX"
    found = metadata(Location(result), 3).steps
    assert {key: step.size for key, step in found.items()} == pytest.approx(SIZES)


def test_the_channels_of_an_ome_zarr_image_come_before_its_slices(tmp_path):
    predictor = make_predictor(2)
    source = ome_tiff(tmp_path)
    plain = np.load(run(predictor, source, tmp_path / "out.npy"))
    result = run(predictor, source, tmp_path / "out.ome.zarr")
    found = zarr.open_array(f"{result}/0", mode="r")
    assert found.metadata.dimension_names == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(np.moveaxis(found[()], 1, 2), plain)


@pytest.mark.parametrize("format", ["tif", "h5", "zarr", "files"])
@pytest.mark.parametrize("dtype", [None, "uint16"])
@pytest.mark.parametrize("compression", ["deflate", "zstd", "none"])
def test_compressed_pixels_are_the_same(predictor, tmp_path, format, dtype, compression):
    source = imagej(tmp_path)
    encoding = Encoding.parse(dtype, dtype and "0:9000")
    options = {"format": format, "encoding": encoding}
    plain = run(predictor, source, tmp_path / "plain", **options)
    packed = run(predictor, source, tmp_path / "packed", compression=compression, **options)
    for index in range(6):
        one, other = (image(place, format, index) for place in (plain, packed))
        assert one.dtype == np.dtype(dtype or "float32")
        np.testing.assert_array_equal(one, other)
        assert np.ptp(one) > 0
    assert is_compressed(packed, format) == (compression != "none")


def image(place, format, index):
    if format == "files":
        return read_image(sorted(place.glob("*.tif"))[index])
    return read_image(Location(place), index=index)


def is_compressed(place, format):
    if format in ("tif", "files"):
        file = next(place.glob("*.tif")) if format == "files" else place
        with tifffile.TiffFile(file) as tiff:
            return tiff.pages[0].compression != 1
    if format == "h5":
        with h5py.File(place) as file:
            return file["data"].id.get_create_plist().get_nfilters() > 0
    return len(zarr.open_array(str(place)).metadata.codecs) > 1


def test_the_file_says_what_its_integers_stand_for(predictor, tmp_path):
    source = ome_tiff(tmp_path)
    values = np.load(run(predictor, source, tmp_path / "values.npy"))
    encoding = Encoding.parse("uint16", f"{values.min() - 1}:{values.max() + 1}")
    result = run(predictor, source, tmp_path / "b.h5", encoding=encoding)
    with h5py.File(result) as file:
        data, attributes = file["data"][()], file["data"].attrs
        assert data.dtype == np.uint16
        found = data * attributes["scale_factor"] + attributes["add_offset"]
    np.testing.assert_allclose(found, values, atol=np.ptp(values) / 65535)


def test_a_pyramid_holds_means(predictor, tmp_path):
    values = np.random.default_rng(1).random((600, 301), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    result = run(predictor, tmp_path / "a.tif", tmp_path / "a.ome.zarr")
    group = zarr.open_group(str(result), mode="r")
    levels = [group[name][()] for name in sorted(group)]
    assert [level.shape for level in levels] == [(600, 301), (300, 151), (150, 151)]
    full = levels[0].astype(np.float64)
    padded = np.pad(full, ((0, 0), (0, 1)), mode="edge")  # the last column has one pixel of two
    expected = padded.reshape(300, 2, 151, 2).mean((1, 3))
    np.testing.assert_allclose(levels[1], expected, rtol=1e-6)
    np.testing.assert_allclose(levels[2], expected.reshape(150, 2, 151).mean(1), rtol=1e-6)
    scales = [
        one["coordinateTransformations"][0]["scale"]
        for one in group.attrs["ome"]["multiscales"][0]["datasets"]
    ]
    assert scales == [[1, 1], [2, 2], [4, 2]]


def test_the_same_result_says_the_same_whichever_way_it_was_made(predictor, tmp_path):
    source = imagej(tmp_path)
    one = run(predictor, source, tmp_path / "one")
    (tmp_path / "elsewhere").mkdir()
    other = run(predictor, source.rename(tmp_path / "elsewhere" / "a.tif"), tmp_path / "two")
    assert one.read_bytes() == other.read_bytes()
    assert str(tmp_path).encode() not in one.read_bytes()

"""Results in the readers that napari and others use; `make test-readers` installs these."""

import numpy as np
import pytest
import tifffile

bioio = pytest.importorskip("bioio")

SIZES = {"Z": 1.5, "Y": 0.25, "X": 0.25}
VALUES = np.random.default_rng(0).normal(10, 2, (3, 200, 300)).astype(np.float32)


@pytest.fixture
def results(cli, regression_run, tmp_path):
    """Results of one OME-TIFF by their suffix."""
    metadata = {"axes": "ZYX", "Channel": {"Name": ["DAPI"]}}
    for letter, size in SIZES.items():
        metadata |= {f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": "µm"}
    scan = tmp_path / "scan.ome.tif"
    tifffile.imwrite(scan, VALUES, ome=True, photometric="minisblack", metadata=metadata)
    found = {suffix: tmp_path / f"result{suffix}" for suffix in (".npy", ".ome.tif", ".ome.zarr")}
    for path in found.values():
        assert cli("predict", regression_run, scan, "-o", path).code == 0
    return found


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_bioio_knows_scale_axes_and_channel(results, suffix):
    image = bioio.BioImage(results[suffix])
    assert list(image.channel_names) == ["DAPI"]
    assert dict(image.dims.items()) == {"T": 1, "C": 1, "Z": 3, "Y": 200, "X": 300}
    assert image.physical_pixel_sizes._asdict() == SIZES
    np.testing.assert_array_equal(image.data, np.load(results[".npy"])[np.newaxis, np.newaxis])


def test_ome_zarr_knows_the_scale_of_every_level(results):
    io, reader = pytest.importorskip("ome_zarr.io"), pytest.importorskip("ome_zarr.reader")
    (node,) = reader.Reader(io.parse_url(results[".ome.zarr"]))()
    np.testing.assert_array_equal(node.data[0], np.load(results[".npy"]))
    assert len(node.data) > 1
    whole = np.array([1.5, 0.25, 0.25]) * VALUES.shape
    for level, said in zip(node.data, node.metadata["coordinateTransformations"], strict=True):
        np.testing.assert_allclose(np.array(said[0]["scale"]) * level.shape, whole)


def test_rasterio_knows_the_place_of_a_part(cli, regression_run, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    place = rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)
    profile = {"width": 300, "height": 200, "count": 1, "dtype": "float32", "driver": "GTiff"}
    with rasterio.open(
        tmp_path / "a.tif", "w", crs="EPSG:32632", transform=place, **profile
    ) as file:
        file.write(VALUES[:1])
    part, path = ("--region", "20:40,10:50"), tmp_path / "part.tif"
    assert cli("predict", regression_run, tmp_path / "a.tif", "-o", path, *part).code == 0
    with rasterio.open(path) as file:
        assert file.crs.to_epsg() == 32632
        assert file.transform == place @ rasterio.Affine.translation(10, 20)
        assert file.shape == (20, 40)

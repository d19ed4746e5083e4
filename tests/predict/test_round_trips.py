"""Files of one kind become files of another: pixels, types, axes and sizes, by other libraries.

The network is the identity with a gain and an offset, so that a result is known without it.
"""

import h5py
import numpy as np
import pytest
import tifffile
import torch

from msdtool.architecture import Architecture
from msdtool.data.sinks import COMPRESSIONS
from msdtool.errors import InputError
from msdtool.nn.build import build_network
from msdtool.predict import Predictor, plan_jobs, predict
from msdtool.predict.encoding import Encoding
from tests.predict import test_metadata
from tests.predict.models import model_of
from tests.predict.test_metadata import imagej, nexus, ome_tiff, ome_zarr

mrcfile = pytest.importorskip("mrcfile")
nibabel = pytest.importorskip("nibabel")
zarr = pytest.importorskip("zarr", "3")

GAIN, OFFSET = 0.75, 3.0
SIZES = {"Z": 2.0, "Y": 0.5, "X": 0.25}
"""Micrometres; those of `tests.predict.test_metadata` are the same."""
UNITS = {"µm": 1, "um": 1, "micron": 1, "micrometer": 1, "Å": 1e-4, "angstrom": 1e-4, "mm": 1e3}
VALUES = np.random.default_rng(0).integers(0, 4000, (3, 20, 24)).astype(np.int16)


@pytest.fixture(scope="module")
def predictor():
    """Value v becomes `GAIN` * v + `OFFSET`: the final layer sees the input alone."""
    architecture = Architecture(1, 1, 2, 1, (1, 2), 2)
    network = build_network(architecture)
    with torch.no_grad():
        network.msd.final_layer.linear.weight[0, 0] = GAIN
        network.msd.final_layer.linear.bias.fill_(OFFSET)
    return Predictor(model_of(network, architecture), "cpu")


def tiff(folder):
    path = folder / "a.tif"
    tifffile.imwrite(path, VALUES, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


def zarr2(folder):
    path = folder / "a.zarr"
    zarr.create_array(str(path), shape=VALUES.shape, dtype="int16", zarr_format=2)[...] = VALUES
    return path


def npy(folder):
    np.save(folder / "a.npy", VALUES)
    return folder / "a.npy"


def mrc(folder):
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(VALUES)
        file.voxel_size = tuple(10_000 * SIZES[letter] for letter in "XYZ")  # angstrom
        file.set_volume()
    return folder / "a.mrc"


def nifti(folder):
    sizes = [SIZES[letter] for letter in "XYZ"]
    image = nibabel.Nifti1Image(VALUES.T, np.diag([*sizes, 1]))
    image.header.set_xyzt_units("micron")
    image.to_filename(folder / "a.nii")
    return folder / "a.nii"


INPUTS = {
    one.__name__: one for one in (tiff, ome_tiff, imagej, nexus, ome_zarr, zarr2, npy, mrc, nifti)
}
NO_SIZES = {"tiff", "zarr2", "npy"}
FOUR_AXES = {"ome_tiff", "imagej", "nexus", "ome_zarr"}


def read_tiff(path):
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        # A page of one slice has no axis for it.
        return series.asarray(), series.axes.replace("Q", "Z").replace("I", "Z"), file_sizes(file)


def file_sizes(file):
    """Sizes in micrometres that a TIFF states; one without a description has none of slices."""
    if file.is_ome:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        return {
            axis: pixels[f"PhysicalSize{axis}"] * UNITS[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "ZYX"
            if f"PhysicalSize{axis}" in pixels
        }
    found, tags = {}, file.pages[0].tags
    if file.imagej_metadata and "spacing" in file.imagej_metadata:
        found["Z"] = file.imagej_metadata["spacing"]
    for letter in "YX":
        value = tags[f"{letter}Resolution"].value if f"{letter}Resolution" in tags else (1, 1)
        if tuple(value) != (1, 1):
            unit = {1: 1, 2: 25_400, 3: 10_000}[int(tags["ResolutionUnit"].value)]
            found[letter] = unit * value[1] / value[0]
    return found


def read_hdf5(path):
    with h5py.File(path) as file:
        arrays = []
        file.visititems(lambda _, item: arrays.append(item) if is_image(item) else None)
        (data,) = arrays
        sizes = {}
        for dimension in data.dims:
            if dimension.label.upper() in SIZES and len(dimension):
                scale = dimension[0]
                step = UNITS[scale.attrs["units"]] * (scale[1] - scale[0])
                sizes[dimension.label.upper()] = step
        return data[...], "".join(one.label for one in data.dims).upper(), sizes


def is_image(item):
    return isinstance(item, h5py.Dataset) and item.ndim >= 3


def read_zarr(path):
    found = zarr.open(str(path), mode="r")
    if isinstance(found, zarr.Array):
        steps = found.attrs.get("steps", {}).items()
        sizes = {letter: step[0] * UNITS[step[1]] for letter, step in steps if letter in SIZES}
        return found[...], "".join(found.metadata.dimension_names).upper(), sizes
    (image,) = found.attrs["ome"]["multiscales"]
    letters = "".join(axis["name"] for axis in image["axes"]).upper()
    scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    units = [axis.get("unit") for axis in image["axes"]]
    known = zip(letters, scale, units, strict=True)
    return found["0"][...], letters, {k: s * UNITS[u] for k, s, u in known if k in SIZES and u}


def read_npy(path):
    return np.load(path), None, None


def read_mrc(path):
    with mrcfile.open(path) as file:
        size = file.voxel_size
        sizes = {letter: float(size[letter.lower()]) / 10_000 for letter in "XYZ"}
        return np.array(file.data), None, {k: v for k, v in sizes.items() if v}


def read_nifti(path):
    image = nibabel.load(path)
    unit = image.header.get_xyzt_units()[0]
    sizes = dict(zip("XYZ", map(float, image.header.get_zooms()), strict=False))
    scaled = {letter: UNITS.get(unit, 0) * size for letter, size in sizes.items()}
    return np.asarray(image.dataobj).T, None, scaled


# By the name of the result: its format and how another library reads it.
OUTPUTS = {
    "b.tif": ("tif", read_tiff),
    "b.ome.tif": ("tif", read_tiff),
    "b.h5": ("h5", read_hdf5),
    "b.zarr": ("zarr", read_zarr),
    "b.ome.zarr": ("zarr", read_zarr),
    "b.npy": ("npy", read_npy),
    "b.mrc": ("mrc", read_mrc),
    "b.nii": ("nii", read_nifti),
}


def result(predictor, source, output, dtype=None, scale=None, compression=None):
    options = {"encoding": Encoding.parse(dtype, scale), "compression": compression}
    (done,) = predict(predictor, plan_jobs(source, output, **options))
    return done.job.output


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_becomes_every_other(predictor, tmp_path, kind, output):
    source = INPUTS[kind](tmp_path)
    values = test_metadata.VALUES if kind in FOUR_AXES else VALUES
    found, axes, sizes = OUTPUTS[output][1](result(predictor, source, tmp_path / output))
    expected = GAIN * values.astype(np.float64) + OFFSET
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert axes in (None, "TZYX"[-values.ndim :])
    if sizes is not None and kind not in NO_SIZES:
        stated = set("YX") if output == "b.tif" and kind != "imagej" else set("ZYX")
        assert sizes == pytest.approx({axis: SIZES[axis] for axis in stated}, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "uint16", "uint8", "input"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_type_in_every_kind(predictor, tmp_path, output, dtype):
    if (output, dtype) in {("b.ome.tif", "float16"), ("b.nii", "float16")}:
        with pytest.raises(InputError, match="float16"):
            result(predictor, tiff(tmp_path), tmp_path / output, dtype)
        return
    found, *_ = OUTPUTS[output][1](result(predictor, tiff(tmp_path), tmp_path / output, dtype))
    exact = GAIN * VALUES.astype(np.float64) + OFFSET
    kind = np.dtype("int16" if dtype == "input" else dtype)
    if (output, dtype) == ("b.mrc", "uint8"):
        kind = np.dtype(np.uint16)  # MRC has no unsigned bytes
    if kind.kind == "f":
        expected = exact.astype(np.float32).astype(kind)
    else:
        expected = np.rint(exact).clip(0, np.iinfo(kind).max).astype(kind)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "output, compression",
    [
        (output, compression)
        for output, (format, _) in OUTPUTS.items()
        for compression in COMPRESSIONS[format]
        if compression != "none"
    ],
)
def test_every_compression_in_every_kind(predictor, tmp_path, output, compression):
    source = tiff(tmp_path)
    found, axes, _ = OUTPUTS[output][1](
        result(predictor, source, tmp_path / output, "uint16", compression=compression)
    )
    expected = np.rint(GAIN * VALUES.astype(np.float64) + OFFSET)
    assert (found.dtype, axes) == (np.dtype(np.uint16), "ZYX")
    np.testing.assert_array_equal(found, expected)

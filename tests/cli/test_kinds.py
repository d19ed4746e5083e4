"""Kinds of data and ways to predict them, from the command line."""

import h5py
import numpy as np
import pytest
import tifffile
import torch

from msdtool.data.readers import read_image
from msdtool.data.specifiers import Location
from msdtool.predict import Predictor
from tests.helpers import write_stack

pytest.importorskip("zarr", "3")

SHAPE = (4, 12, 13)


@pytest.fixture
def volume(tmp_path):
    """Slices in an HDF5 file, and what they are."""
    array = 10 + np.random.default_rng(3).normal(0, 2, SHAPE).astype(np.float32)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["entry/data"] = array
    return array


def expected(run, images, **options):
    predictor = Predictor.load(run, "cpu", **options)
    return [predictor(torch.from_numpy(image[None])).numpy() for image in images]


# Results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["tif", "h5", "zarr", "npy", "files"])
def test_results_are_of_the_format_that_is_asked_for(cli, regression_run, volume, tmp_path, format):
    source, out = f"{tmp_path}/v.h5::/entry/data", tmp_path / "out"
    result = cli("predict", regression_run, source, "-o", out, "--format", format)
    path = out / ("v" if format == "files" else f"v.{format}")
    assert (result.code, result.out) == (0, f"{path}\n")
    for index, image in enumerate(expected(regression_run, volume)):
        place = Location(path, "/entry/data" if format in ("h5", "zarr") else "")
        if format == "files":
            place, number = Location(path / f"v_{index}.tif"), 0
        else:
            number = index
        np.testing.assert_allclose(read_image(place, index=number), image, rtol=1e-5, atol=1e-5)


def test_an_unknown_format(refused, regression_run, volume, tmp_path):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "-o", tmp_path / "out"]
    assert refused(*arguments, "--format", "png", code=2).startswith(
        "format: got 'png'; allowed: tif, h5, zarr, npy, files"
    )


def test_symmetries_are_averaged_when_told(cli, regression_run, volume, tmp_path):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "--format", "npy"]
    for options, name in (([], "plain"), (["--tta"], "averaged")):
        assert cli(*arguments, *options, "-o", tmp_path / name).code == 0
    plain, averaged = (np.load(tmp_path / name / "v.npy") for name in ("plain", "averaged"))
    images = np.stack(expected(regression_run, volume, tta=True))[:, 0]
    np.testing.assert_allclose(averaged, images, rtol=1e-5, atol=1e-5)
    assert np.abs(averaged - plain).max() > 1e-3


# Memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["much", "0", "-2GB", "2 GBs"])
def test_a_memory_that_is_not_a_size(refused, regression_run, volume, tmp_path, size):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "-o", tmp_path / "out"]
    assert refused(*arguments, f"--memory={size}", code=2).startswith(
        f"memory: got {size!r}; expected a size such as 2GB, 1.5GiB or 800MB"
    )


@pytest.mark.parametrize(("size", "shown"), [("5", "5e-06"), ("50MB", "50")])
def test_too_little_memory(refused, regression_run, volume, tmp_path, size, shown):
    arguments = ["predict", regression_run, tmp_path / "v.h5", "-o", tmp_path / "out"]
    found = refused(*arguments, "--memory", size, "--device", "cpu", code=2)
    assert found.startswith(f"memory: {shown} MB is below the program's baseline memory use, ")
    assert "00 MB or more" in found


# Sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "mapping"),
    [
        (lambda path, array: np.save(path / "a.npy", array.T), "path: {}/a.npy, axes: XYZ"),
        (
            lambda path, array: array.astype(">f4").tofile(path / "a.raw"),
            "path: {}/a.raw, shape: [4, 12, 13], dtype: '>f4'",
        ),
        (
            lambda path, array: [np.save(path / f"a{k}.npy", array[k]) for k in range(4)],
            "path: [{0}/a0.npy, '{0}/a[1-3].npy']",
        ),
    ],
    ids=["axes", "raw", "list"],
)
def test_a_source_may_be_a_mapping(cli, regression_run, volume, tmp_path, write, mapping):
    write(tmp_path, volume)
    out = tmp_path / "out"
    source = f"{{{mapping.format(tmp_path)}}}"
    result = cli("predict", regression_run, source, "-o", out, "--format", "npy")
    assert result.code == 0, result.err
    found = [np.load(path) for path in map(str, result.out.split())]
    images = np.stack(expected(regression_run, volume))[:, 0]
    np.testing.assert_allclose(np.concatenate([found[0]] if len(found) == 1 else [found]), images,
                               rtol=1e-5, atol=1e-5)  # fmt: skip


BAD_SOURCES = {
    "{path: v.h5, axs: ZYX}": (
        2, "axs: unknown key; did you mean 'axes'? Allowed: path, axes, shape, dtype"),
    "{axes: ZYX}": (2, "path: missing: a glob, folder, file, or list of these"),
    "{path: v.h5, axes: ZZX}": (
        2, "axes: got 'ZZX'; expected a letter per axis, each once: X, Y, Z, C (channels), T "
        "(counts images), such as ZYX or YXC"),
    "{path: v.h5, shape: [4, 12, 13]}": (
        2, "a raw file needs both shape and dtype, any other file neither"),
    "{path: v.h5, shape: [4, 12, 0], dtype: uint8}": (
        2, "shape[2]: got 0; expected a number not less than 1"),
    "{path: v.h5, shape: [4], dtype: float}": (
        2, "dtype: got 'float'; expected a dtype such as uint16, float32, or >u2 "
        "(big-endian)"),
    "{path: v.h5": (2, "not valid YAML; expected {path: ..., axes: ...}"),
}  # fmt: skip


@pytest.mark.parametrize("source", BAD_SOURCES)
def test_a_mapping_that_is_wrong(refused, regression_run, volume, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    code, message = BAD_SOURCES[source]
    found = refused("predict", regression_run, source, "-o", "out", code=code)
    assert found == f"{source}: {message}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{path: v.h5, axes: CYX}",
            "v.h5: the image has 4 channels, the model was trained on images with 1",
        ),
        (
            "{path: v.h5, axes: YX}",
            "v.h5: axes: YX names 2 axes, the array has 3, shape (4, 12, 13); name each of them",
        ),
        ("v.h5::/data", "v.h5::/data: the file has no dataset of that name; it holds /entry/data"),
        (
            "a.npz",
            "a.npz: an .npz file can only be read as a whole; save its array as .npy",
        ),
    ],
)
def test_a_source_that_does_not_fit_its_file(
    refused, regression_run, volume, tmp_path, monkeypatch, source, message
):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", volume)
    assert refused("predict", regression_run, source, "-o", "out", code=3) == message


def test_a_list_of_files_on_the_command_line(cli, regression_run, volume, tmp_path):
    write_stack(tmp_path / "scan", volume)
    (tmp_path / "list.txt").write_text("scan/image_002.tif\n# not this one: scan/image_001.tif\n")
    result = cli("predict", regression_run, f"@{tmp_path}/list.txt", "-o", tmp_path / "out")
    assert (result.code, result.out) == (0, f"{tmp_path}/out/image_002.tif\n")
    found = tifffile.imread(tmp_path / "out" / "image_002.tif")
    (image,) = expected(regression_run, volume[2:3])
    np.testing.assert_allclose(found, image[0], rtol=1e-5, atol=1e-5)
